"""The addresses of the generator services."""

from __future__ import annotations

from collections.abc import Iterable

from catimage.errors import InputError
from catimage.serving.settings import load_environment

SCHEMES = {"file": "unix", "tcp": "http"}
"""The scheme of an address by the scheme that BentoML uses, for those that differ."""


def group_url(name: str) -> str | None:
    """Return the address in ``CATIMAGE_GROUP_URLS`` of a group that runs elsewhere."""
    return load_environment().group_urls.get(name)


def group_urls(names: Iterable[str]) -> dict[str, str]:
    """Return the address of each group, ``http://HOST:PORT`` or ``unix:///PATH``.

    Args:
        names: names of the groups.

    Raises:
        InputError: BentoML has not started a group, and ``CATIMAGE_GROUP_URLS`` lacks its address.
    """
    from bentoml._internal.configuration.containers import BentoMLContainer

    started: dict[str, str] = BentoMLContainer.remote_runner_mapping.get()
    urls = {}
    for name in names:
        url = group_url(name) or started.get(name)
        if url is None:
            raise InputError(
                f"CATIMAGE_GROUP_URLS: the address of the group {name!r} is unknown. Add it, or"
                " start all services with 'bentoml serve'."
            )
        scheme, _, place = url.partition("://")
        urls[name] = f"{SCHEMES.get(scheme, scheme)}://{place}"
    return urls

"""Connections to this machine, which no proxy may relay."""

from __future__ import annotations

import os

LOCAL_ADDRESSES = ("localhost", "127.0.0.1", "::1")
"""The names of this machine, for example of a local Prefect or MLflow server."""


def bypass_proxies_for_local_addresses() -> None:
    """Add the names of this machine to ``no_proxy``, for this process and its child processes.

    HTTP clients, such as those of Prefect and MLflow, send requests to this machine to the proxy in
    ``HTTP_PROXY``, too, unless ``no_proxy`` lists its names. Libraries read either spelling of the
    variable, so both are set.
    """
    value = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    listed = [name.strip() for name in value.split(",") if name.strip()]
    if "*" not in listed:
        listed += [address for address in LOCAL_ADDRESSES if address not in listed]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(listed)

"""Addresses of the generator services."""

from __future__ import annotations

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer

from catimage.errors import InputError
from catimage.serving.bento.addresses import group_urls


def test_the_addresses_are_those_of_bentoml_or_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CATIMAGE_GROUP_URLS", raising=False)
    mapping = {"a": "file:///tmp/x/1.sock", "b": "tcp://127.0.0.1:3001", "c": "http://c:3000"}
    before = BentoMLContainer.remote_runner_mapping.get()
    BentoMLContainer.remote_runner_mapping.set(mapping)
    try:
        assert group_urls("abc") == {
            "a": "unix:///tmp/x/1.sock",
            "b": "http://127.0.0.1:3001",
            "c": "http://c:3000",
        }
        with pytest.raises(InputError, match="the address of the group 'd' is unknown"):
            group_urls("d")
        monkeypatch.setenv("CATIMAGE_GROUP_URLS", '{"d": "https://gpu.internal"}')
        assert group_urls("ad")["d"] == "https://gpu.internal"
    finally:
        BentoMLContainer.remote_runner_mapping.set(before)

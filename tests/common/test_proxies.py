"""Requests to this machine do not go through a proxy."""

import os

import httpx
import pytest
import requests

from catimage.common.proxies import bypass_proxies_for_local_addresses


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "localhost,127.0.0.1,::1"),
        ("example.com, 127.0.0.1", "example.com,127.0.0.1,localhost,::1"),
        ("*", "*"),
    ],
)
def test_the_names_of_this_machine_are_added(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", before or "")
    bypass_proxies_for_local_addresses()
    bypass_proxies_for_local_addresses()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == after


def test_clients_connect_to_this_machine_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    bypass_proxies_for_local_addresses()
    local = ("http://127.0.0.1:4200/", "http://localhost:4200/", "http://[::1]:4200/")
    with httpx.Client() as client:
        transports = [client._transport_for_url(httpx.URL(url)) for url in local]
        assert all(transport is client._transport for transport in transports)
        remote = client._transport_for_url(httpx.URL("http://example.com/"))
        assert remote is not client._transport
    assert [requests.utils.get_environ_proxies(url) for url in local[:2]] == [{}, {}]

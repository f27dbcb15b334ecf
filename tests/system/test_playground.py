"""The playground in Chromium: an image appears, and no request leaves this machine."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from benchmarks.serving.services import pixels

from tests.system.running_service import PROMPT, RunningService, create_key, serve

pytestmark = pytest.mark.system

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def service(packaged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with serve(packaged, tmp_path_factory.mktemp("playground")) as running:
        yield running


@pytest.mark.parametrize("with_key", [False, True])
def test_an_image_appears_and_no_request_leaves_this_machine(
    service: RunningService, packaged: Path, chromium: str, with_key: bool
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    secret = create_key(packaged, service.env)["secret"] if with_key else ""
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        urls: list[str] = []
        problems: list[str] = []
        page.on("request", lambda request: urls.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(service.url + "/")
        if with_key:
            page.wait_for_timeout(2500)  # serving.refresh_seconds
            page.fill("#prompt", PROMPT)
            page.click("#send")
            page.wait_for_selector("#status.error", timeout=30_000)
            page.fill("#key", secret)
        page.fill("#prompt", PROMPT)
        page.fill("#n", "2")
        page.click("#send")
        page.locator("#images img").nth(1).wait_for(timeout=60_000)
        sources = [image.get_attribute("src") or "" for image in page.locator("#images img").all()]
        files = [base64.b64decode(source.partition("base64,")[2]) for source in sources]
        assert [pixels(file).shape for file in files] == [(64, 64, 3)] * 2
        assert "mini-" in page.inner_text("#facts")
        browser.close()
    hosts = {urlsplit(url).hostname for url in urls if urlsplit(url).scheme in ("http", "https")}
    assert hosts == {"127.0.0.1"}
    assert len(urls) >= 4 and problems == []

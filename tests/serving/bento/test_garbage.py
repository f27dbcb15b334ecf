"""Bentos that can be removed, in a store with small ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from catimage.serving.bento import garbage as module
from catimage.serving.bento.garbage import bento_garbage

LATER = datetime(2026, 6, 1, tzinfo=UTC).timestamp()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store with five Bentos, one per day, and one of another name."""
    from bentoml._internal.bento import BentoStore
    from bentoml._internal.configuration.containers import BentoMLContainer

    bentos = tmp_path / "bentos"
    for name, day in (*(("service", day) for day in range(1, 6)), ("other", 1)):
        folder = bentos / name / f"v{day}"
        folder.mkdir(parents=True)
        document = {
            "service": "service:Router",
            "name": name,
            "version": f"v{day}",
            "bentoml_version": "1.4.0",
            "creation_time": f"2026-05-0{day}T00:00:00+00:00",
            "labels": {"router": f"digest{day}"},
        }
        (folder / "bento.yaml").write_text(yaml.safe_dump(document))
        (folder / "weights").write_bytes(b"x" * 1000)
    BentoMLContainer.bento_store.set(BentoStore(bentos))
    yield bentos
    BentoMLContainer.bento_store.reset()


def names(**arguments: object) -> list[str]:
    defaults = {"keep": 1, "before": LATER, "tags": set(), "digests": set()}
    return [item.name for item in bento_garbage("service", **defaults | arguments)]


def test_the_newest_and_the_young_ones_are_kept(store: Path) -> None:
    assert names() == ["service:v4", "service:v3", "service:v2", "service:v1"]
    assert names(keep=4) == ["service:v1"]
    before = datetime(2026, 5, 2, 12, tzinfo=UTC).timestamp()
    assert names(before=before) == ["service:v2", "service:v1"]
    assert bento_garbage("missing", 1, LATER, set(), set()) == []


def test_those_that_a_version_or_a_service_needs_are_kept(store: Path) -> None:
    kept = names(tags={"service:v2"}, digests={"digest3"})
    assert kept == ["service:v4", "service:v1"]


def test_those_that_a_process_serves_are_kept(store: Path) -> None:
    code = "import sys; sys.stdin.read()"
    for arguments, folder in ((["service:v4"], "/"), ([], store / "service" / "v2")):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=folder, stdin=subprocess.PIPE
        )
        try:
            served = "service:v4" if arguments else "service:v2"
            assert served not in names()
        finally:
            process.communicate()
    assert len(names()) == 4


def test_removal_deletes_the_folder(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_process_texts", lambda: "")
    item = bento_garbage("service", 4, LATER, set(), set())[0]
    assert item.size > 1000
    item.remove()
    assert not (store / "service" / "v1").exists()
    assert names() == ["service:v4", "service:v3", "service:v2"]

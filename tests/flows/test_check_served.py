"""The flow that compares what is served with what is registered, with a Prefect server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows import check_served
from tests.flows.test_flows import artifact

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_the_daily_check_fails_if_what_is_served_is_not_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[str]] = {"replicas": [], "files": []}
    monkeypatch.setattr("catimage.commands.lineage.check_served", lambda _: found["replicas"])
    monkeypatch.setattr("catimage.commands.lineage.check_champion", lambda _: found["files"])
    assert "every replica serves the champion: yes" in check_served.check_served(tmp_path)
    found |= {"replicas": ["replica a: serves router 1"], "files": ["version 2: altered"]}
    state = check_served.check_served(tmp_path, return_state=True)
    expected = "check_served: replica a: serves router 1; version 2: altered"
    assert state.is_failed() and state.message == expected
    rows = {row["name"]: row["value"] for row in json.loads(artifact("served"))}
    assert rows["the files of the champion are intact"] == "version 2: altered"

"""The commands of docs/backup.md, run while the state and the registry are in use."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from catimage.serving.state.budgets import BudgetRow
from catimage.serving.state.store import State
from catimage.tracking.client import CHAMPION, EXPERIMENT, MODEL, connection
from catimage.tracking.versions import version_with_alias
from catimage.workspace import Workspace
from tests.documented_commands import run_documented


def use(state: State) -> None:
    """Serve a request: each of them has two images and costs 3."""
    state.budgets.update("service", 1, 2, 3.0, lambda row: row.cost / 100)


def budget_of(state: State) -> BudgetRow:
    row = state.budgets.read("service")
    assert row is not None
    return row


def test_keys_and_budgets_go_on_after_a_restore(tmp_path: Path) -> None:
    path, backup = tmp_path / "state.db", tmp_path / "backup"
    backup.mkdir()
    state, stop = State.open(f"sqlite:///{path}"), threading.Event()
    key, secret = state.keys.create("team-a", ceiling=100.0)
    state.spending.settle(state.spending.reserve(key, 5.0), 4.0)
    service_secret = state.secret()
    use(state)

    def serve() -> None:
        while not stop.is_set():
            use(state)

    writer = threading.Thread(target=serve)
    writer.start()
    run_documented("backup.md", "backup-state", STATE=path, BACKUP=backup)
    stop.set()
    writer.join()
    later, _ = state.keys.create("after the backup")
    at_end = budget_of(state).requests
    state.close()
    with closing(sqlite3.connect(path)) as left:  # a killed service leaves a write-ahead log
        left.execute("DELETE FROM catimage_keys")
        left.commit()
        run_documented("backup.md", "restore-state", STATE=path, BACKUP=backup)
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(path)) as connection_:
        assert connection_.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    restored = State.open(f"sqlite:///{path}")
    assert restored.keys.verify(secret) == key
    assert restored.keys.current(later.key_id) is None
    assert restored.spending.spent(key.key_id) == 4.0
    assert restored.secret() == service_secret
    row = budget_of(restored)
    assert 1 <= row.requests <= at_end
    assert (row.images, row.cost) == (2 * row.requests, 3.0 * row.requests), "one transaction"
    use(restored)
    assert budget_of(restored).requests == row.requests + 1
    restored.close()


def test_the_registry_is_restored_with_its_files_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    backup, first, second = (tmp_path / name for name in ("backup", "first", "second"))
    for folder in (backup, first, second):
        folder.mkdir()
    with connection(Workspace(first)) as client:
        experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
        run = client.create_run(experiment)
        report = tmp_path / "report.html"
        report.write_text("the report")
        client.log_artifact(run.info.run_id, str(report))
        client.create_registered_model(MODEL)
        client.create_model_version(MODEL, run.info.artifact_uri, run_id=run.info.run_id)
        client.set_registered_model_alias(MODEL, CHAMPION, "1")
    run_documented("backup.md", "backup-registry", WORKSPACE=first, BACKUP=backup)
    run_documented("backup.md", "restore-registry", WORKSPACE=second, BACKUP=backup)
    with connection(Workspace(second)) as client:
        assert version_with_alias(client, CHAMPION) == "1"
        place = Path(client.get_run(run.info.run_id).info.artifact_uri.removeprefix("file://"))
        assert place.is_relative_to(second)
        assert (place / "report.html").read_text() == "the report"

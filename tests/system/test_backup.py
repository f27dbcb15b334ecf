"""The commands of docs/backup.md on a real PostgreSQL server, while the service writes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from catimage.serving.state.store import State
from tests.commands.test_backup import budget_of, use
from tests.documented_commands import run_documented
from tests.system.programs import PostgreSQL, find_program


def test_keys_and_budgets_go_on_after_a_restore(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Path(find_program("pg_dump")).parent
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    url, stop = postgresql.new_database(), threading.Event()
    state = State.open(url)
    key, secret = state.keys.create("team-a", ceiling=100.0)
    state.spending.settle(state.spending.reserve(key, 5.0), 4.0)
    use(state)

    def serve() -> None:
        while not stop.is_set():
            use(state)

    writer = threading.Thread(target=serve)
    writer.start()
    place = url.replace("+psycopg", "")
    run_documented("backup.md", "backup-postgresql", DATABASE=place, BACKUP=tmp_path)
    stop.set()
    writer.join()
    at_end = budget_of(state).requests
    state.keys.revoke(key.key_id)
    state.close()
    run_documented("backup.md", "restore-postgresql", DATABASE=place, BACKUP=tmp_path)
    restored = State.open(url)
    assert restored.keys.verify(secret) == key, "the revocation was after the backup"
    assert restored.spending.spent(key.key_id) == 4.0
    row = budget_of(restored)
    assert 1 <= row.requests <= at_end
    assert (row.images, row.cost) == (2 * row.requests, 3.0 * row.requests), "one transaction"
    use(restored)
    assert budget_of(restored).requests == row.requests + 1
    restored.close()

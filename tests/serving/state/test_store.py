"""Opening the state: schema versions, the shared secret, simultaneous starts, and bad addresses."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event, update

from catimage.errors import InputError
from catimage.serving.messages import ServingError
from catimage.serving.state import database
from catimage.serving.state.store import State
from catimage.serving.state.tables import meta
from tests.serving.state.helpers import in_threads
from tests.serving.state.workers import open_and_read_secret


class TestState:
    def test_the_secret_is_created_once(self, state, url):
        again = State.open(url)
        secret = state.secret()
        assert len(secret) == 32 and again.secret() == secret == state.secret()
        assert state.secret("other") != secret
        again.close()

    def test_processes_that_start_together_share_one_secret(self, url, processes):
        first, second = processes.call(open_and_read_secret, [(url,), (url,)])
        assert first == second and len(first) == 32

    def test_threads_that_start_together_share_one_secret(self, url):
        assert len(set(in_threads(open_and_read_secret, [(url,)] * 8))) == 1

    def test_a_newer_schema_is_refused(self, state, url):
        with state._database.write() as connection:
            connection.execute(update(meta).filter_by(name="schema_version").values(value="99"))
        with pytest.raises(InputError, match=r"newer version of CATImage .*\(schema 99;") as caught:
            State.open(url)
        assert "\n" not in str(caught.value)

    def test_a_state_that_is_in_use_is_purged(self, state):
        state.images.put(b"x", "image/png", -1)
        state.check()
        state.purge()
        assert state.images.total_bytes() == 0


def test_only_the_owner_can_read_the_file(tmp_path):
    path = tmp_path / "new" / "state.db"
    State.open(f"sqlite:///{path}").close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "CATIMAGE_STATE_URL: the value is not a URL. Use sqlite:////FOLDER"),
        ("state.db", "CATIMAGE_STATE_URL: the value is not a URL"),
        ("mysql://user:hidden@host/db", "the database 'mysql' is not supported"),
        ("postgresql+asyncpg://user:hidden@host/db", "'postgresql.asyncpg' is not supported"),
        ("sqlite://", "a database in memory cannot be shared"),
        ("sqlite:///:memory:", "a database in memory cannot be shared"),
        ("sqlite:////proc/nothing/state.db", "/proc/nothing/state.db: the database .* be opened"),
        ("postgresql://user:hidden@127.0.0.1:{port}/db", "the server does not respond. Start it"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence(url, message):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = url.replace("{port}", str(free.getsockname()[1]))
        with pytest.raises(InputError, match=message) as caught:
            State.open(url)
    assert "hidden" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_and_another_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="the database of the service cannot be opened"):
        State.open(f"sqlite:///{tmp_path}")
    other = tmp_path / "notes.txt"
    other.write_text("not a database, but a text of some length\n" * 50)
    before = other.read_bytes()
    with pytest.raises(ServingError, match=r"notes.txt: the file is not a SQLite database"):
        State.open(f"sqlite:///{other}")
    assert other.read_bytes() == before


def test_a_read_only_database_is_reported(state, url):
    path = Path(url.removeprefix("sqlite:///"))
    with pytest.raises(ServingError, match="the database is read-only"):
        State.open(f"sqlite:///file:{path}?mode=ro&uri=true")


def test_a_full_disk_is_reported_and_reading_continues(state):
    token = state.images.put(b"a" * 1000, "image/png", 60)
    event.listen(
        state._database.engine,
        "connect",
        lambda connection, _: connection.execute("PRAGMA max_page_count = 60"),
    )
    state._database.engine.dispose()
    with pytest.raises(ServingError, match=r"the disk is full. Free space") as caught:
        state.images.put(b"x" * 1_000_000, "image/png", 60)
    assert caught.value.status == 503
    assert state.images.get(token) == (b"a" * 1000, "image/png")


def test_a_killed_process_leaves_committed_rows_and_no_lock(state, url):
    code = (
        "import os, sys; from catimage.serving.state.store import State\n"
        "state = State.open(sys.argv[1])\n"
        "state.budgets.update('service', 1, 1, 1.0, lambda r: 1.0)\n"
        "state.budgets.update('service', 1, 1, 1.0, lambda r: os.kill(os.getpid(), 9))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, url], check=False).returncode == -9
    assert state.budgets.update("service", 1, 1, 1.0, lambda row: 2.0).requests == 2.0


def test_the_module_imports_no_heavy_packages_and_opens_nothing(tmp_path):
    code = (
        "import sys, catimage.serving.state.store, catimage.serving.limits\n"
        "print([m for m in ('torch', 'sklearn', 'pandas', 'mlflow', 'diffusers', 'bentoml',"
        " 'psycopg', 'redis') if m in sys.modules])"
    )
    environment = os.environ | {"HOME": str(tmp_path), "CATIMAGE_STATE_URL": "postgresql://x/y"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert result.stdout.strip() == "[]", result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_holds_the_lock_for_too_long_is_reported(state, monkeypatch):
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.05)
    with state._database.write(), pytest.raises(ServingError, match="other writers") as caught:
        in_threads(state.spending.purge, [()])
    assert (caught.value.status, caught.value.code) == (503, "state_unavailable")
    assert state.spending.purge() == 0

"""Registration in places that are moved, deleted, damaged, read-only, or have unusual names."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from catimage.errors import InputError
from catimage.params import load_params
from catimage.stages import calibrate
from catimage.tracking import local_store
from catimage.tracking.registry import RegistrationResult, register
from catimage.workspace import Workspace
from tests import forked
from tests.forked import needs_mount
from tests.provenance import record_inputs


def run(workspace: Workspace) -> RegistrationResult:
    return register(workspace, load_params(workspace.params))


def recalibrate(workspace: Workspace, budget: str) -> None:
    """Make a new router: calibrate for another budget."""
    text = workspace.params.read_text().replace("60%", budget)
    workspace.params.write_text(text)
    calibrate.run(workspace, load_params(workspace.params))
    record_inputs(workspace)


def aliases(workspace: Workspace) -> dict[str, str]:
    """The aliases in the database of a workspace, read without MLflow."""
    with closing(sqlite3.connect(workspace.root / "mlflow.db")) as connection:
        rows = connection.execute("SELECT alias, version FROM registered_model_aliases").fetchall()
    return {alias: str(version) for alias, version in rows}


@contextmanager
def limited_to(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.mark.parametrize("names", [("A?x", "A?y"), ("A#ä x", "A#ä y"), ("A%41x", "AAx")])
def test_each_workspace_has_its_own_database_whatever_its_name(
    workspace: Workspace, tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in names:
        copy = Workspace(shutil.copytree(workspace.root, tmp_path / "places" / name))
        if name == names[0]:
            (copy.root / "mlflow.db").unlink()  # MLflow creates its tables
        result = run(copy)
        assert (result.version, result.champion) == ("1", True)
        assert run(copy).reason == "this version is already the champion"
        assert aliases(copy) == {"champion": "1", "challenger": "1"}
        assert list((copy.root / "mlruns").rglob("router.json"))
    assert sorted(p.name for p in (tmp_path / "places").iterdir()) == sorted(names)


def test_a_deleted_experiment_is_restored(
    registered: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    workspace = registered
    assert run(workspace).version == "1"  # the folder is now that of the artifacts
    client = mlflow.MlflowClient(f"sqlite:///{workspace.root / 'mlflow.db'}")
    client.delete_experiment(client.get_experiment_by_name("catimage").experiment_id)
    recalibrate(workspace, "40%")
    assert run(workspace).version == "2"
    assert "restored the deleted experiment" in capsys.readouterr().out
    assert client.get_experiment_by_name("catimage").lifecycle_stage == "active"


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_the_artifacts_of_a_moved_or_copied_workspace_are_found(
    registered: Workspace, tmp_path: Path, copied: bool
) -> None:
    workspace = registered
    assert run(workspace).version == "1"  # the folder is now that of the artifacts
    shutil.copytree(workspace.root, tmp_path / "new place")
    if not copied:
        shutil.rmtree(workspace.root)
    new = Workspace(tmp_path / "new place")
    before = {p for p in tmp_path.rglob("*") if new.root not in p.parents}
    recalibrate(new, "40%")
    result = run(new)
    assert (result.version, result.champion) == ("2", True)
    assert result.reason.startswith("the champion does not meet the new settings")
    assert aliases(new) == {"champion": "2", "challenger": "2"}
    assert {p for p in tmp_path.rglob("*") if new.root not in p.parents} == before
    assert len({p.parent for p in (new.root / "mlruns").rglob("router.json")}) == 2


def test_missing_files_of_the_champion_are_reported_with_the_command_that_repairs_it(
    registered: Workspace,
) -> None:
    workspace = registered
    assert run(workspace).version == "1"  # the folder is now that of the artifacts
    shutil.rmtree(workspace.root / "mlruns")
    recalibrate(workspace, "40%")
    result = run(workspace)
    assert (result.version, result.champion, result.blocked) == ("2", False, True)
    assert "files of version 1 of 'router', the champion" in result.reason
    assert aliases(workspace) == {"champion": "1", "challenger": "2"}
    command = result.reason.partition("run in the workspace: ")[2].partition(" To replace")[0]
    assert command.startswith("python -c")
    subprocess.run(
        command.replace("python", sys.executable, 1), shell=True, cwd=workspace.root, check=True
    )
    assert run(workspace).reason == "there was no champion"
    assert aliases(workspace) == {"champion": "2", "challenger": "2"}


@pytest.mark.parametrize("damage", ["text", "truncated", "folder"])
def test_a_damaged_database_is_reported_at_once(workspace: Workspace, damage: str) -> None:
    database = workspace.root / "mlflow.db"
    if damage == "truncated":
        database.write_bytes(database.read_bytes()[:20000])
    elif damage == "text":
        database.write_text("not a database " * 100)
    else:
        database.unlink()
        database.mkdir()
    with (
        limited_to(5),
        pytest.raises(InputError, match=r"mlflow\.db: (the database is damaged|cannot be written)"),
    ):
        run(workspace)


@needs_mount
def test_a_read_only_workspace_is_reported_at_once(
    evaluated_folder: Path, registered: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One workspace has not been registered, and one has another router."""
    recalibrate(registered, "40%")
    parent = registered.root.parent
    new = Workspace(shutil.copytree(evaluated_folder, parent / "new"))
    commands = [["register", "--workspace", str(w.root)] for w in (new, registered)]

    def attempt() -> list[tuple[int, str]]:
        forked.enter_namespace(root=True)
        forked.shell(forked.read_only(parent))
        return forked.run_commands(commands)

    with limited_to(60):  # MLflow retries for 102 seconds
        results = forked.result_of(attempt, tmp_path_factory.mktemp("result"))
    for workspace, result in zip((new, registered), results, strict=True):
        assert result == [
            2,
            f"catimage: {workspace.root / 'mlflow.db'}: cannot be written. Make it writable, or set"
            " MLFLOW_TRACKING_URI to the address of an MLflow server.\n",
        ]


def test_a_database_without_write_permission_is_reported_at_once(
    registered: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is read-only, because root may write to every file."""
    recalibrate(registered, "40%")
    connect = sqlite3.connect

    def read_only(path: Path, **options: float) -> sqlite3.Connection:
        return connect(f"file:{path}?mode=ro", uri=True, **options)

    monkeypatch.setattr(local_store.sqlite3, "connect", read_only)
    with limited_to(5), pytest.raises(InputError, match=r"cannot be written\. Make it writable"):
        run(registered)


def test_a_database_of_another_version_of_mlflow_is_reported_with_the_command(
    registered: Workspace,
) -> None:
    """MLflow checks a database once per process, and this process has not opened this one."""
    with closing(sqlite3.connect(registered.root / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
    with pytest.raises(InputError, match=r"run 'mlflow db upgrade sqlite:///mlflow\.db' in"):
        run(registered)


def test_an_unreachable_server_is_reported_in_bounded_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.root / "mlflow.db").unlink()
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    for address in (
        f"http://user:secret@127.0.0.1:{port}",
        f"postgresql://user:secret@127.0.0.1:{port}/mlflow",
        "http://",
        "http://127.0.0.1:port",
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with limited_to(15), pytest.raises(InputError, match="MLFLOW_TRACKING_URI: ") as raised:
            run(workspace)
        assert "secret" not in str(raised.value)
    assert not (workspace.root / "mlflow.db").exists()


def test_a_server_that_is_not_mlflow_is_reported(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), NotFound) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with limited_to(15), pytest.raises(InputError, match="a request of MLflow failed"):
            run(workspace)
        server.shutdown()


def test_two_registrations_at_the_same_time_register_one_router_each(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with different routers and one database, in any order of their requests. MLflow
    creates its tables.
    """
    other = Workspace(shutil.copytree(workspace.root, tmp_path / "other"))
    recalibrate(other, "40%")
    database = tmp_path / "shared.db"
    sqlite3.connect(database).close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")

    def start(place: Workspace) -> int:
        os.chdir(place.root)  # for the artifacts
        return forked.start(lambda: run(place).version, place.root / "version.json")

    monkeypatch.chdir(tmp_path)
    children = [start(place) for place in (workspace, other)]
    assert [forked.exit_status(child) for child in children] == [0, 0]
    versions = [(place.root / "version.json").read_text() for place in (workspace, other)]
    assert sorted(versions) == ['"1"', '"2"']


def test_registrations_in_threads_of_one_workspace_give_one_version(workspace: Workspace) -> None:
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(run, [workspace] * 3))
    assert {(result.version, result.champion) for result in results} == {("1", True)}
    assert aliases(workspace) == {"champion": "1", "challenger": "1"}

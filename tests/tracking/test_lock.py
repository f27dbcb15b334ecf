"""The lock of a registry on a server, with the real store of MLflow."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from catimage.tracking import lock
from catimage.tracking.champions import champion_history, set_champion
from catimage.tracking.client import CHAMPION, MODEL
from catimage.tracking.lock import ConflictError, registry_lock


class ServerClient(MlflowClient):  # type: ignore[misc]
    """A client of a database whose address looks like that of a server."""

    @property
    def tracking_uri(self) -> str:
        return "http://127.0.0.1"


@pytest.fixture
def client(
    mlflow_database: Path, sqlite_without_synchronisation: None, tmp_path: Path
) -> MlflowClient:
    shutil.copy(mlflow_database, tmp_path / "mlflow.db")
    return ServerClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


def locks(client: MlflowClient) -> list[str]:
    return [model.name for model in client.search_registered_models("name LIKE 'router-lock-%'")]


def run_together(call: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=call, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_process_at_a_time_holds_the_lock(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "POLL", 0.02)
    inside, most, turns = [0], [0], [0]

    def work(_: int) -> None:
        for _turn in range(3):
            with registry_lock(client) as check:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.02)
                check()
                inside[0] -= 1
                turns[0] += 1

    run_together(work, 4)
    assert most == [1] and turns == [12]
    assert locks(client) == ["router-lock-12"], "only the last one is left"


def test_of_changes_that_expect_the_same_champion_one_succeeds(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "POLL", 0.02)
    client.create_registered_model(MODEL)
    for _ in range(5):
        client.create_model_version(MODEL, tmp_path.as_uri())
    set_champion(client, "1", None)
    results: dict[int, str] = {}

    def work(number: int) -> None:
        try:
            set_champion(client, str(number + 2), "1")
            results[number] = "set"
        except ConflictError as error:
            results[number] = str(error)

    run_together(work, 4)
    (winner,) = [number for number, result in results.items() if result == "set"]
    champion = str(client.get_registered_model(MODEL).aliases[CHAMPION])
    assert champion == str(winner + 2) and champion_history(client) == ["1", champion]
    losers = [result for result in results.values() if result != "set"]
    assert all("another process has changed it" in text for text in losers)


def test_the_lock_of_a_killed_process_is_taken_after_the_lease(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LEASE", 0.3)
    with registry_lock(client) as check_old:
        began = time.monotonic()
        with registry_lock(client) as check:
            assert time.monotonic() - began >= 0.3
            check()
            with pytest.raises(ConflictError, match="has taken the lock of 'router'"):
                check_old()
        check()
    assert locks(client) == ["router-lock-2"]
    with registry_lock(client):
        assert locks(client) == ["router-lock-3"], "released, so that nobody waits"


def test_a_smaller_number_that_is_created_late_is_no_lock(client: MlflowClient) -> None:
    with registry_lock(client):
        pass
    with registry_lock(client):
        assert not lock._create(client, 1)
        assert locks(client) == ["router-lock-2"]


def test_a_sqlite_database_has_no_lock(client: MlflowClient) -> None:
    plain: Any = MlflowClient(f"{client._tracking_client.store.db_uri}")
    with registry_lock(plain) as check:
        check()
    assert locks(plain) == []

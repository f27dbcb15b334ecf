"""Promotions on a server of MLflow that is away in between, and several at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from catimage.commands.keys import open_state
from catimage.commands.promote import promote
from catimage.errors import OutageError
from catimage.params import Params, load_params
from catimage.tracking import lock
from catimage.tracking.champions import champion_history, set_champion
from catimage.tracking.client import CHAMPION, MODEL, connection
from catimage.tracking.lock import ConflictError
from catimage.tracking.versions import version_with_alias
from catimage.workspace import Workspace
from tests.registered_routers import register_routers
from tests.system.mlflow_server import MlflowServer, Outage, outages
from tests.trained_workspace import train_workspace


@pytest.fixture(scope="module")
def workspace(
    mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """A workspace with two registered versions on the server, of which the first is champion."""
    mlflow_server.clear()
    found, _ = train_workspace(tmp_path_factory.mktemp("outages") / "workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
        patch.setenv("CATIMAGE_STATE_URL", f"sqlite:///{found.root}/state.db")
        register_routers(found, 2)
        promote(found, load_params(found.params), "1", "first", timeout=None)
        yield found
    mlflow_server.clear()


@pytest.fixture
def outage(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    """A proxy between the commands and the server."""
    monkeypatch.setattr(lock, "LEASE", 0.5)
    monkeypatch.setattr(lock, "POLL", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with outages(mlflow_server.url) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        yield proxy


def champions(workspace: Workspace) -> tuple[str | None, str, list[str]]:
    """Return the champion of the registry, that of the service, and the history."""
    with connection(workspace) as client, open_state(workspace.root) as state:
        published = state.rollouts.current()["champion"].version
        return version_with_alias(client, CHAMPION), published, champion_history(client)


def promoted(workspace: Workspace, params: Params, version: str) -> bool:
    """Promote a version; return whether no outage prevented it."""
    try:
        promote(workspace, params, version, "test", timeout=None)
    except OutageError:
        return False
    return True


def test_an_outage_at_any_request_leaves_one_champion_and_a_retry_completes(
    workspace: Workspace, outage: Outage
) -> None:
    """The server executes the n-th request that writes, and is away before it answers, for every n.

    If it is away before the request, the registry is as after the request before.
    """
    params, lost = load_params(workspace.params), 0
    while True:
        old, published, history = champions(workspace)
        assert old == published == history[-1]
        new, lost = {"1": "2", "2": "1"}[old], lost + 1
        outage.end(lost, executed=True)
        if promoted(workspace, params, new):
            break
        outage.end()
        found, published, between = champions(workspace)
        assert published == old, "nothing was published"
        assert (found, between) in ((old, history), (new, [*history, new]))
        assert promoted(workspace, params, new)
        assert champions(workspace) == (new, new, [*history, new])
    assert lost > 5, "a promotion writes the reason, the reference, the lock, history and alias"


def test_of_promotions_at_the_same_time_one_succeeds(
    workspace: Workspace, mlflow_server: MlflowServer
) -> None:
    """PostgreSQL refuses the second lock of the same name, so that no change is overwritten."""
    old = champions(workspace)[0]
    new, results = {"1": "2", "2": "1"}[str(old)], []

    def work() -> None:
        try:
            set_champion(mlflow_server.client(), new, old)
            results.append("set")
        except ConflictError:
            results.append("conflict")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["conflict"] * 3 + ["set"]
    client = mlflow_server.client()
    assert version_with_alias(client, CHAMPION) == new
    names = [m.name for m in client.search_registered_models() if m.name != MODEL]
    assert len(names) == 1 and names[0].startswith(lock.PREFIX), "only the last lock is left"

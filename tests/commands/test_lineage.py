"""Lineage of registered routers, forwards and backwards, with a real registry and decision log."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from catimage.commands.keys import open_state
from catimage.commands.lineage import check_champion, check_served, lineage
from catimage.common.hashing import folder_digest
from catimage.errors import InputError
from catimage.params import Params, load_params
from catimage.router import Router
from catimage.tracking import registry
from catimage.tracking.client import CHAMPION, MODEL, connection
from catimage.workspace import Workspace
from tests.decision_rows import NOON, decision_row, save_decisions
from tests.serving.rollout.routers import changed_router
from tests.trained_workspace import train_workspace

COMMITS = {"1": "1" * 40, "2": "2" * 40}
LOCK = "c0ffee00" * 4
"""The MD5 hash of ``dvc.lock``, which both versions share."""


@pytest.fixture(scope="module")
def registered(mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with two versions in its registry; the first is the champion."""
    import mlflow

    root = tmp_path_factory.mktemp("lineage") / "workspace"
    workspace, _ = train_workspace(root)
    shutil.copy(mlflow_database, root / "mlflow.db")
    wheel = root / "catimage.whl"
    wheel.write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(registry, "build_wheel", lambda folder: wheel)
        with connection(workspace) as client:
            for version, commit in COMMITS.items():
                copy = Workspace(root / f"copy-{version}")
                changed_router(workspace.router, copy.router, estimator=version)
                tags = {"mlflow.source.git.commit": commit, "md5.dvc.lock": LOCK}
                tags |= {"bento": f"catimage-service:{version}", "pool": "mini"}
                with mlflow.start_run():
                    mlflow.set_tags(tags)
                    digest = folder_digest(copy.router)
                    registry._log_model(copy, Router.load(copy.router), digest)
            client.set_registered_model_alias(MODEL, CHAMPION, "1")
    return workspace


@pytest.fixture
def log(registered: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A decision log with two requests of version 1 and one of the router in the second Bento."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("CATIMAGE_HOME", str(tmp_path))
    monkeypatch.setenv("CATIMAGE_LOG_FOLDER", str(tmp_path / "log"))
    digest = folder_digest(registered.root / "copy-2" / "models" / "router")
    versions = {"a": "1", "b": "1", "c": digest[:12], "d": "fallback"}
    rows = [
        decision_row(i, "a cat", request_id=name, router_version=version)
        for i, (name, version) in enumerate(versions.items())
    ]
    save_decisions(tmp_path / "log", rows)
    return load_params(registered.params)


def versions_of(registered: Workspace, log: Params, name: str | None) -> list[str]:
    return [origin["version"] for origin in lineage(registered, log, name)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", ["1"]),
        ("c", ["2"]),
        ("champion", ["1"]),
        ("2", ["2"]),
        ("catimage-service:2", ["2"]),
        ("2222222", ["2"]),
        (LOCK[:7], ["1", "2"]),
        (LOCK, ["1", "2"]),
        ("mini", ["1", "2"]),
        (None, ["1", "2"]),
    ],
)
def test_names_lead_to_routers(
    registered: Workspace, log: Params, name: str | None, expected: list[str]
) -> None:
    assert versions_of(registered, log, name) == expected


def test_a_served_request_leads_to_everything_that_its_router_was_made_from(
    registered: Workspace, log: Params
) -> None:
    (origin,) = lineage(registered, log, "b")
    assert (origin["aliases"], origin["git_commit"]) == (["champion"], COMMITS["1"])
    assert origin["files"] == {"dvc.lock": LOCK}
    assert origin["bento"] == "catimage-service:1"
    assert origin["digest"] == folder_digest(registered.root / "copy-1" / "models" / "router")
    first, last = NOON.isoformat(), (NOON + timedelta(minutes=1)).isoformat()
    assert origin["served"] == {"requests": 2, "first": first, "last": last}


@pytest.mark.parametrize("name", ["d", "nothing", "222222"])
def test_names_of_nothing_are_reported(registered: Workspace, log: Params, name: str) -> None:
    """A request of the fallback candidate, an unknown name, and a commit with too few digits."""
    with pytest.raises(InputError, match=f"^{name}: belongs to no registered router") as error:
        lineage(registered, log, name)
    assert "catimage register" not in str(error.value)


def test_an_empty_name_is_refused(registered: Workspace, log: Params) -> None:
    with pytest.raises(InputError, match=r"^NAME: is empty\. Give a request id, .* leave it out"):
        lineage(registered, log, "")


def test_runs_may_be_shortened(registered: Workspace, log: Params) -> None:
    for origin in lineage(registered, log, None):
        assert versions_of(registered, log, origin["run"][:7]) == [origin["version"]]
        assert versions_of(registered, log, origin["digest"][:7]) == [origin["version"]]


@pytest.mark.parametrize("name", [None, "champion", "0123abcd"])
def test_without_a_registered_router_registering_is_the_fix(
    log: Params, mlflow_database: Path, tmp_path: Path, name: str | None
) -> None:
    shutil.copy(mlflow_database, tmp_path / "mlflow.db")
    message = r"no router is registered\. Run 'catimage register' first\.$"
    with pytest.raises(InputError, match=message):
        lineage(Workspace(tmp_path), log, name)


def test_replicas_that_do_not_serve_the_champion_are_reported(
    registered: Workspace, log: Params
) -> None:
    digests = {v: folder_digest(registered.root / f"copy-{v}/models/router") for v in COMMITS}
    assert check_served(registered) == []
    with open_state(registered.root) as state:
        state.replicas.report("good", "1", digests["1"])
        state.replicas.report("bento", digests["1"][:12], digests["1"])
        state.replicas.report("old", "2", digests["2"])
    (problem,) = check_served(registered)
    assert problem.startswith("replica old: serves router 2, and the champion is version 1.")


def test_altered_files_of_the_champion_are_reported(
    registered: Workspace, log: Params, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(registered.root, tmp_path / "workspace"))
    assert check_champion(Workspace(root)) == []
    (path,) = [
        p
        for p in (root / "mlruns").rglob("router.json")
        if folder_digest(p.parent) == folder_digest(root / "copy-1" / "models" / "router")
    ]
    path.write_text(path.read_text() + " ")
    (problem,) = check_champion(Workspace(root))
    assert "the files of version 1 of 'router' are not those that were registered" in problem
    with connection(Workspace(root)) as client:
        client.delete_registered_model_alias(MODEL, CHAMPION)
    assert check_champion(Workspace(root)) == []

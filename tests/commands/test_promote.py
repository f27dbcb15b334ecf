"""Promotion, trial and rollback of registered routers, with a replica that follows them."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from catimage.commands.promote import promote
from catimage.commands.rollback import RollbackPlan, plan_rollback, rollback
from catimage.commands.trial import end_trial, try_challenger
from catimage.common.hashing import folder_digest
from catimage.errors import InputError
from catimage.params import Params, PromoteParams, load_params
from catimage.serving.decisions.versions import Versions
from catimage.serving.rollout.follower import RolloutFollower
from catimage.serving.state.store import State
from catimage.tracking.champions import champion_history, set_champion
from catimage.tracking.client import CHALLENGER, CHAMPION, MODEL, connection
from catimage.tracking.versions import version_with_alias
from catimage.workspace import Workspace
from tests.registered_routers import register_routers
from tests.trained_workspace import train_workspace


@pytest.fixture(scope="module")
def registered(mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with three versions of the router in its registry, and no champion."""
    workspace, _ = train_workspace(tmp_path_factory.mktemp("promote") / "workspace")
    shutil.copy(mlflow_database, workspace.root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        register_routers(workspace, 3)
        with connection(workspace) as client:
            client.set_registered_model_alias(MODEL, CHALLENGER, "2")
    return workspace


@pytest.fixture
def workspace(registered: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace with version 1 as champion, and a state of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("CATIMAGE_STATE_URL", f"sqlite:///{tmp_path}/state.db")
    with connection(registered) as client:
        client.delete_registered_model_tag(MODEL, "champions")
        client.set_registered_model_alias(MODEL, CHAMPION, "1")
    return registered


@pytest.fixture
def params(workspace: Workspace) -> Params:
    """Parameters whose gate promotes a version that is as good as the champion."""
    return load_params(workspace.params).model_copy(
        update={"promote": PromoteParams(rule="not_worse", margin=0.01)}
    )


@contextmanager
def replica(refused: str = "") -> Iterator[State]:
    """Run a replica that follows the published routers; yield the state."""
    import os

    state, stop = State.open(os.environ["CATIMAGE_STATE_URL"]), threading.Event()

    async def use(versions: Versions, digest: str) -> None:
        if versions.champion and versions.champion.version == refused:
            raise InputError("models/router: the pool lacks huge. Correct it.")

    async def run() -> None:
        follower = RolloutFollower(state, "replica-1", 0.02)
        await follower.begin(Versions(), "", use)
        follower.start()
        while not stop.is_set():
            await asyncio.sleep(0.01)
        await follower.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not state.replicas.live():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield state
    finally:
        stop.set()
        thread.join(20)
        state.close()


def champion(workspace: Workspace) -> tuple[str | None, list[str]]:
    with connection(workspace) as client:
        return version_with_alias(client, CHAMPION), champion_history(client)


def test_promote_changes_the_registry_and_the_service_and_rollback_returns(
    workspace: Workspace, params: Params
) -> None:
    with replica() as state:
        summary = promote(workspace, params, None)
        assert (summary.version, summary.previous) == ("2", "1")
        assert summary.replicas == ("replica-1",)
        assert champion(workspace) == ("2", ["1", "2"])
        digest = folder_digest(workspace.root / "models-2" / "router")
        (live,) = state.replicas.live()
        assert (live.version, live.digest) == ("2", digest)
        with connection(workspace) as client:
            assert client.get_model_version(MODEL, "2").tags["gate"] == summary.reason
        promote(workspace, params, "3")
        assert champion(workspace) == ("3", ["1", "2", "3"])
        for expected in ("2", "1"):
            assert rollback(workspace).version == expected
            assert champion(workspace)[0] == expected
            assert state.replicas.live()[0].version == expected
        with pytest.raises(InputError, match="there is no previous champion to return to"):
            rollback(workspace)
        with connection(workspace) as client:
            assert "to version 2" in client.get_model_version(MODEL, "3").tags["rolled_back"]


def test_a_repeated_rollback_completes_the_first_attempt_and_goes_back_by_one(
    workspace: Workspace, params: Params
) -> None:
    """The first attempt has moved the alias, and then the registry was away."""
    with replica() as state:
        promote(workspace, params, "2")
        promote(workspace, params, "3")
        plan = plan_rollback(workspace)
        assert plan == RollbackPlan("2", "3")
        with connection(workspace) as client:
            set_champion(client, "2", "3", ["1", "2"])
        assert rollback(workspace, plan=plan).version == "2"
        assert champion(workspace) == ("2", ["1", "2"])
        assert state.replicas.live()[0].version == "2"
        with connection(workspace) as client:
            set_champion(client, "1", "2", ["1"])
        with pytest.raises(InputError, match="another process has changed it"):
            rollback(workspace, plan=plan)


def test_a_promotion_whose_first_attempt_was_interrupted_returns_to_the_served_champion(
    workspace: Workspace, params: Params
) -> None:
    """The alias was moved, and nothing was published; the replica then refuses the version."""
    with replica(refused="3"):
        promote(workspace, params, "2")
        with connection(workspace) as client:
            set_champion(client, "3", "2")
        with pytest.raises(InputError, match="the pool lacks huge"):
            promote(workspace, params, "3")
    assert champion(workspace) == ("2", ["1", "2"])


def test_the_gate_refuses_and_force_needs_and_records_a_reason(
    workspace: Workspace, params: Params
) -> None:
    strict = params.model_copy(update={"promote": PromoteParams(rule="better")})
    with pytest.raises(InputError, match=r"version 2: the gate does not promote it .*--force"):
        promote(workspace, strict, "2")
    assert champion(workspace) == ("1", ["1"])
    summary = promote(workspace, strict, "2", force="an outage")
    assert summary.reason.startswith("forced (an outage); the gate: ")
    assert summary.replicas == () and summary.waited
    assert champion(workspace)[0] == "2"


def test_nothing_remains_of_a_promotion_that_a_replica_cannot_follow(
    workspace: Workspace, params: Params
) -> None:
    with replica(refused="2") as state:
        promote(workspace, params, "1")  # publishes the present champion
        before = state.rollouts.current()["champion"]
        with pytest.raises(
            InputError, match=r"replica replica-1: champion: version 2 cannot .*huge"
        ):
            promote(workspace, params, "2")
        assert champion(workspace) == ("1", ["1"])
        after = state.rollouts.current()["champion"]
        assert (after.version, after.digest) == (before.version, before.digest) != ("2", "")
        assert state.replicas.live()[0].version == "1"


def test_a_replica_that_does_not_change_over_in_time_is_named(
    workspace: Workspace, params: Params, tmp_path: Path
) -> None:
    state = State.open(f"sqlite:///{tmp_path}/state.db")
    state.replicas.report("slow", "1", "0")
    with pytest.raises(InputError, match=r"1 of 1 replicas did not change over .*slow \(version 1"):
        promote(workspace, params, "2", timeout=0.3)
    assert champion(workspace)[0] == "1" and state.rollouts.current() == {}
    assert promote(workspace, params, "2", timeout=None).replicas == ()
    assert state.rollouts.current()["champion"].version == "2"
    state.close()


def test_a_champion_that_another_process_has_changed_is_not_overwritten(
    workspace: Workspace,
) -> None:
    with connection(workspace) as client:
        with pytest.raises(InputError, match="the champion of 'router' is version 1 and no longer"):
            set_champion(client, "3", "2")
        assert version_with_alias(client, CHAMPION) == "1"


def test_a_history_that_a_killed_process_has_left_is_corrected(workspace: Workspace) -> None:
    with connection(workspace) as client:
        client.set_registered_model_tag(MODEL, "champions", json.dumps(["3", "1", "2"]))
        assert champion_history(client) == ["3", "1"]
        client.set_registered_model_tag(MODEL, "champions", json.dumps(["3", "2"]))
        assert champion_history(client) == ["3", "2", "1"]


def test_a_challenger_is_tried_and_ended(workspace: Workspace, params: Params) -> None:
    with replica() as state:
        promote(workspace, params, "1")
        summary = try_challenger(workspace, None, shadow=True, share=0.0)
        assert (summary.role, summary.version) == ("challenger", "2")
        (live,) = state.replicas.live()
        assert (live.version, live.challenger, live.shadow) == ("1", "2", True)
        summary = try_challenger(workspace, "3", shadow=False, share=0.1)
        assert summary.previous == "2" and "10.0%" in summary.reason
        assert state.replicas.live()[0].share == 0.1
        assert end_trial(workspace).previous == "3"
        assert state.replicas.live()[0].challenger == ""
        with pytest.raises(InputError, match="no version is being tried"):
            end_trial(workspace)
        with pytest.raises(InputError, match="version 1: it is the champion"):
            try_challenger(workspace, "1", shadow=True, share=0.0)
        try_challenger(workspace, "2", shadow=False, share=0.5)
        promote(workspace, params, "2")
        assert set(state.rollouts.current()) == {"champion"}


def test_unknown_versions_and_altered_files_are_refused(
    workspace: Workspace, params: Params
) -> None:
    for version in ("17", "latest"):
        with pytest.raises(InputError, match=f"no version '{version}' of the router. Use one of 1"):
            promote(workspace, params, version)
    with connection(workspace) as client:
        digest = client.get_model_version(MODEL, "3").tags["router_digest"]
        client.set_model_version_tag(MODEL, "3", "router_digest", "0" * 64)
    with pytest.raises(InputError, match="are not those that were registered"):
        promote(workspace, params, "3")
    with connection(workspace) as client:
        client.set_model_version_tag(MODEL, "3", "router_digest", digest)
    assert champion(workspace)[0] == "1"

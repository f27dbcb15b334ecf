"""A router process that follows the published routers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from catimage.common.hashing import folder_digest
from catimage.errors import InputError
from catimage.router import Router
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.rollout import follower as module
from catimage.serving.rollout.follower import RolloutFollower
from catimage.serving.state.replicas import Replica
from catimage.serving.state.store import State
from catimage.workspace import Workspace
from tests.serving.rollout.routers import changed_router, publish


class Used:
    """Keeps the versions that a follower uses, and refuses those of a name."""

    def __init__(self, refused: str = "") -> None:
        self.versions, self.digest, self.refused, self.count = Versions(), "", refused, 0

    async def __call__(self, versions: Versions, digest: str) -> None:
        if versions.champion and versions.champion.version == self.refused:
            raise InputError("models/router: the pool lacks huge. Run 'catimage calibrate' again.")
        self.versions, self.digest = versions, digest
        self.count += 1

    @property
    def names(self) -> tuple[str | None, str | None]:
        champion, challenger = self.versions.champion, self.versions.challenger
        return champion and champion.version, challenger and challenger.version


@pytest.fixture
def own(calibrated: Workspace) -> Versions:
    """The router of the Bento."""
    return Versions(RouterVersion("own", Router.load(calibrated.router)))


def report(state: State) -> Replica:
    (replica,) = state.replicas.live()
    return replica


async def begun(state: State, own: Versions, used: Used) -> RolloutFollower:
    follower = RolloutFollower(state, "replica-1", 0.01)
    await follower.begin(own, "own-digest", used)
    return follower


def test_the_published_champion_is_used_from_the_start_and_reported(
    state: State, calibrated: Workspace, own: Versions
) -> None:
    rollout = publish(state, "champion", "3", calibrated.router)

    async def follow() -> None:
        used = Used()
        follower = await begun(state, own, used)
        assert used.names == ("3", None) and used.digest == rollout.digest
        follower.start()
        async with asyncio.timeout(10):
            while not state.replicas.live():
                await asyncio.sleep(0.01)
        found = report(state)
        assert (found.version, found.digest) == ("3", folder_digest(calibrated.router))
        assert found.problem == ""
        await follower.close()
        assert state.replicas.live() == []

    asyncio.run(follow())


def test_without_a_publication_the_router_of_the_bento_stays(state: State, own: Versions) -> None:
    async def follow() -> None:
        used = Used()
        follower = await begun(state, own, used)
        await follower.update()
        assert used.count == 0
        assert (report(state).version, report(state).digest) == ("own", "own-digest")

    asyncio.run(follow())


def test_champion_and_challenger_change_without_loading_files_twice(
    state: State, calibrated: Workspace, own: Versions, tmp_path: Path
) -> None:
    other = changed_router(calibrated.router, tmp_path / "other", budget=2.0)

    async def follow() -> None:
        used = Used()
        follower = await begun(state, own, used)
        publish(state, "champion", "1", calibrated.router)
        publish(state, "challenger", "2", other, shadow=True)
        await follower.update()
        assert used.names == ("1", "2") and used.versions.shadow and used.versions.share == 0
        tried = used.versions.challenger
        publish(state, "challenger", "2", other, share=0.25)
        await follower.update()
        assert used.versions.challenger is tried
        assert not used.versions.shadow and used.versions.share == 0.25
        assert (report(state).challenger, report(state).share) == ("2", 0.25)
        assert report(state).challenger_digest == folder_digest(other)
        publish(state, "champion", "2", other)
        state.rollouts.clear("challenger")
        await follower.update()
        assert used.names == ("2", None) and used.versions.champion is tried
        assert report(state).challenger == ""
        state.rollouts.clear("champion")
        await follower.update()
        assert used.names == ("own", None) and used.digest == "own-digest"

    asyncio.run(follow())


def test_a_router_that_cannot_be_used_leaves_the_previous_one_and_is_reported(
    state: State, calibrated: Workspace, own: Versions, tmp_path: Path
) -> None:
    broken = changed_router(calibrated.router, tmp_path / "broken")
    (broken / "router.json").write_text("{")

    async def follow() -> None:
        used = Used(refused="4")
        follower = await begun(state, own, used)
        publish(state, "champion", "1", calibrated.router)
        await follower.update()
        publish(state, "champion", "3", broken)
        await follower.update()
        await follower.update()
        assert used.names == ("1", None) and used.count == 1
        assert report(state).version == "1"
        assert report(state).problem.startswith("champion: version 3 cannot be used: ")
        assert "damaged" in report(state).problem
        publish(state, "champion", "4", calibrated.router)
        await follower.update()
        assert report(state).problem.endswith("lacks huge. Run 'catimage calibrate' again.")
        assert used.names == ("1", None)
        publish(state, "champion", "5", calibrated.router)
        await follower.update()
        assert used.names == ("5", None) and report(state).problem == ""

    asyncio.run(follow())


def test_altered_files_and_other_units_are_refused(
    state: State, calibrated: Workspace, own: Versions, tmp_path: Path
) -> None:
    async def follow() -> None:
        used = Used()
        follower = await begun(state, own, used)
        rollout = publish(state, "champion", "1", calibrated.router)
        archive = state.rollouts.archive(rollout)
        state.rollouts.publish("champion", "1", "0" * 64, archive)
        await follower.update()
        assert used.count == 0 and "differ from those that were registered" in report(state).problem
        other = changed_router(calibrated.router, tmp_path / "usd", cost_unit="usd")
        publish(state, "challenger", "2", other, share=0.5)
        await follower.update()
        assert "cost_unit: the challenger has usd, the champion tflops" in report(state).problem
        assert used.names == (None, None)

    asyncio.run(follow())


def test_a_failed_router_is_tried_again_and_an_unreachable_database_is_waited_for(
    state: State,
    calibrated: Workspace,
    own: Versions,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    async def follow() -> None:
        used = Used(refused="1")
        follower = await begun(state, own, used)
        publish(state, "champion", "1", calibrated.router)
        await follower.update()
        used.refused = ""
        await follower.update()
        assert used.count == 0
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
        (tmp_path / "state.db").rename(tmp_path / "moved.db")
        state.close()
        (tmp_path / "state.db").mkdir()
        await follower.update()
        assert used.count == 0
        (tmp_path / "state.db").rmdir()
        (tmp_path / "moved.db").rename(tmp_path / "state.db")
        await follower.update()
        assert used.names == ("1", None) and report(state).problem == ""

    asyncio.run(follow())

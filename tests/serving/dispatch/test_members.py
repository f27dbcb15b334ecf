from __future__ import annotations

import pytest

from catimage.serving.dispatch.members import Member
from catimage.serving.tasks import CandidateLoad, GroupStatus
from tests.serving.groups import ScriptedGroup

LOAD = CandidateLoad(seconds=1.0, batch_seconds=0.5, batch_size=4)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def status(queue_seconds: float = 0.0, **changes: object) -> GroupStatus:
    values = {"group": "g", "ready": True, "draining": False, "candidates": {"a": LOAD}}
    return GroupStatus(**values | changes, queue_seconds=queue_seconds)  # type: ignore[arg-type]


def member(clock: Clock) -> Member:
    new = Member(ScriptedGroup("g", "a"), clock)
    new.update(status(), clock.now)
    return new


def test_the_wait_grows_with_each_task_and_falls_with_time() -> None:
    clock = Clock()
    group = member(clock)
    group.send("a", 4)
    assert group.wait == pytest.approx(2.0)
    group.send("a", 2)  # another batch
    assert group.wait == pytest.approx(2.0 + 4 / 3)
    group.send("a", 2)  # the same batch
    assert group.wait == pytest.approx(4.0)
    clock.now += 2.5
    assert group.wait == pytest.approx(1.5)


def test_the_wait_is_zero_when_all_tasks_have_ended_before_their_estimated_time() -> None:
    clock = Clock()
    group = member(clock)
    first, second = group.send("a", 4), group.send("a", 2)
    clock.now += 0.4
    group.end("a", 4, first)
    assert group.wait == pytest.approx(second)
    group.update(status(second), clock.now)
    group.end("a", 2, second)
    assert group.wait == 0
    assert group.send("a", 1) == LOAD.seconds


def test_the_work_of_other_routers_stays_in_the_wait() -> None:
    clock = Clock()
    group = member(clock)
    own = group.send("a", 4)
    clock.now += 0.1
    group.update(status(own + 3.0), clock.now)
    group.end("a", 4, own)
    clock.now += 1.0
    assert group.wait == pytest.approx(2.0)


def test_tasks_sent_during_a_poll_are_added_to_its_wait() -> None:
    clock = Clock()
    group = member(clock)
    group.send("a", 4)
    clock.now += 0.1
    requested = clock.now
    group.send("a", 4)
    clock.now += 0.2
    group.update(status(1.5), requested)
    assert group.wait == pytest.approx(1.5 + 2.0 - 0.2)


def test_a_remote_candidate_does_not_wait_for_the_device() -> None:
    clock = Clock()
    group = member(clock)
    remote = CandidateLoad(3.0, 0.0, 1)
    group.update(status(7.0, candidates={"a": LOAD, "b": remote}), clock.now)
    assert group.wait_of("a") == pytest.approx(7.0)
    assert group.wait_of("b") == 0.0


def test_a_group_is_down_after_several_missed_polls_and_up_after_one_answer() -> None:
    group = member(Clock())
    group.miss("not responding")
    group.miss("not responding")
    assert group.ready
    group.miss("not responding")
    assert not group.ready and group.problem == "not responding"
    group.update(status(), 100.0)
    assert group.ready
    group.update(status(error="out of memory"), 100.0)
    assert group.problem == "out of memory"
    group.update(status(draining=True), 100.0)
    assert group.ready and group.draining

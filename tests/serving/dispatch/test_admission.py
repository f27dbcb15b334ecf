from __future__ import annotations

import asyncio

import pytest

from catimage.serving.dispatch.admission import Admission
from catimage.serving.dispatch.fleet import Fleet
from catimage.serving.messages import ServingError
from catimage.serving.tasks import CandidateLoad
from tests.serving.groups import ScriptedGroup

SLOW = CandidateLoad(seconds=2.0, batch_seconds=1.0, batch_size=4)


def fleet_of(*groups: ScriptedGroup) -> Fleet:
    """Return a fleet that has polled each group once."""
    fleet = Fleet({group.name: group for group in groups})

    async def poll() -> None:
        for member in fleet.members.values():
            await fleet.poll(member)

    asyncio.run(poll())
    return fleet


def test_requests_are_refused_when_the_estimated_wait_is_too_long() -> None:
    admission = Admission(fleet_of(ScriptedGroup("g", "a", load=SLOW)), limit=3.0)
    with admission.accepted(3):
        assert admission.check(["a"]) == pytest.approx(3.0)
        with admission.accepted(2), pytest.raises(ServingError) as refused:
            admission.check(["a"])
    assert (refused.value.status, refused.value.code) == (429, "overloaded")
    assert refused.value.retry_after == pytest.approx(2.0)
    assert admission.check(["a"]) == pytest.approx(0.0)


def test_a_candidate_with_a_long_queue_is_tried_last() -> None:
    busy = ScriptedGroup("busy", "a", load=SLOW)
    busy.queue_seconds = 9.0
    admission = Admission(fleet_of(busy, ScriptedGroup("free", "b", load=SLOW)), limit=3.0)
    assert admission.order(("a", "b")) == ("b", "a")
    busy.queue_seconds = 4.0
    tolerant = Admission(fleet_of(busy), limit=3.0)
    assert tolerant.order(("a",)) == ("a",)
    with pytest.raises(ServingError, match="overloaded"):
        admission.order(("a",))


def test_a_job_is_not_refused_because_of_the_load() -> None:
    busy = ScriptedGroup("busy", "a", load=SLOW)
    busy.queue_seconds = 9.0
    admission = Admission(fleet_of(busy), limit=3.0)
    assert admission.check(["a"], patient=True) == pytest.approx(9.0, abs=0.5)
    assert admission.order(("a",), patient=True) == ("a",)
    with pytest.raises(ServingError, match="no group has it"):
        admission.check(["b"], patient=True)


def test_no_group_is_not_an_overload() -> None:
    group = ScriptedGroup("g", "a")
    group.up = False
    admission = Admission(fleet_of(group), limit=3.0)
    for refuse in (admission.check, admission.order):
        with pytest.raises(ServingError, match="down") as refused:
            refuse(["a"])
        assert (refused.value.status, refused.value.code) == (503, "unavailable")


def test_the_group_with_the_shorter_queue_makes_a_candidate_of_both() -> None:
    first, second = ScriptedGroup("1", "a", load=SLOW), ScriptedGroup("2", "a", load=SLOW)
    first.queue_seconds = 2.0
    fleet = fleet_of(first, second)
    best = fleet.best("a")
    assert best is not None and best.name == "2"
    assert fleet.best("a", {("2", "a")}) is fleet.members["1"]


def test_a_group_that_shuts_down_gets_tasks_of_accepted_requests_only_if_no_other_can() -> None:
    leaving, staying = ScriptedGroup("1", "a", load=SLOW), ScriptedGroup("2", "a", load=SLOW)
    leaving.draining, staying.queue_seconds = True, 2.0
    fleet = fleet_of(leaving, staying)
    best = fleet.best("a")
    assert best is not None and best.name == "2" and fleet.ready
    alone = fleet_of(leaving)
    assert alone.best("a") is alone.members["1"] and not alone.ready


def test_the_wait_of_the_busiest_device_decides_about_the_pressure() -> None:
    hosted = CandidateLoad(seconds=3.0, batch_seconds=0.0, batch_size=1)
    busy, idle = ScriptedGroup("1", "a", load=SLOW), ScriptedGroup("2", "b", load=hosted)
    busy.queue_seconds = 5.0
    admission = Admission(fleet_of(busy, idle), limit=3.0)
    assert admission.device_wait() == pytest.approx(5.0, abs=0.1)
    with admission.accepted(4):
        assert admission.device_wait() == pytest.approx(7.0, abs=0.1)
        assert admission.device_wait(own=4) == pytest.approx(5.0, abs=0.1)
    assert admission.check(["a", "b"]) == 0.0  # the hosted candidate does not wait
    assert Admission(fleet_of(idle), limit=3.0).device_wait() == 0.0

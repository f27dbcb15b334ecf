"""All generator groups: polls their status, and selects the group of a task."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from catimage.serving.dispatch.breakers import CircuitBreakers
from catimage.serving.dispatch.members import Member
from catimage.serving.generator.client import Group
from catimage.serving.generator.failures import GroupUnavailable
from catimage.serving.tasks import CandidateLoad, GroupStatus

BUSY_SECONDS, IDLE_SECONDS, DOWN_SECONDS = 0.5, 1.0, 0.25
"""Interval of the polls of a group that has work, has none, or is not ready."""
OBSERVE_SECONDS = 5.0
"""Interval of the attempts to observe the end of a process that cannot be observed."""
POLL_TIMEOUT = 3.0
"""Seconds after which a poll has failed."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Survey:
    """The state of candidates at one moment.

    Attributes:
        loads: the measured speed of each candidate, on the group that would make it.
        waits: estimated seconds until a task that is sent now starts, by candidate.
        unavailable: why candidates cannot be made, by name.
    """

    loads: dict[str, CandidateLoad]
    waits: dict[str, float]
    unavailable: dict[str, str]


class Fleet:
    """The generator groups, with their status, and the circuit breakers of their candidates.

    All methods must be called from the event loop.

    Args:
        groups: the clients of the groups, by name.
        breakers: the circuit breakers, by (group, candidate).
        clock: returns the time in seconds.

    Attributes:
        members: the groups by name.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        breakers: CircuitBreakers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = {name: Member(group, clock) for name, group in groups.items()}
        self.breakers = breakers or CircuitBreakers(clock=clock)
        self._clock = clock
        self._polls: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Start to poll the groups; returns at once."""
        self._polls = [
            asyncio.create_task(follow(member))
            for member in self.members.values()
            for follow in (self._poll_forever, self._observe_forever)
        ]

    async def close(self) -> None:
        """Stop polling, and close the clients of the groups."""
        for poll in self._polls:
            poll.cancel()
        await asyncio.gather(*self._polls, return_exceptions=True)
        await asyncio.gather(*(m.group.close() for m in self.members.values()))

    @property
    def ready(self) -> bool:
        """Whether at least one group takes tasks of new requests."""
        return any(
            m.ready and not m.draining and m.status and m.status.candidates
            for m in self.members.values()
        )

    def statuses(self) -> dict[str, GroupStatus | None]:
        """Return the last status of every group, by name."""
        return {name: member.status for name, member in self.members.items()}

    def best(self, candidate: str, skip: Collection[tuple[str, str]] = ()) -> Member | None:
        """Return the group with the shortest queue among those that can make a candidate now.

        A group that is shutting down is only returned if there is no other one.

        Args:
            candidate: name of the candidate.
            skip: pairs (group, candidate) that are not considered.
        """
        found: Member | None = None
        shortest = (True, float("inf"))
        for name, member in self.members.items():
            if not member.makes(candidate) or (skip and (name, candidate) in skip):
                continue
            wait = (member.draining, member.wait_of(candidate))
            if wait < shortest and self.breakers.available((name, candidate)):
                found, shortest = member, wait
        return found

    def wait(self, candidate: str) -> float | None:
        """Return the estimated wait of a candidate in seconds; None if no group can make it."""
        member = self.best(candidate)
        return None if member is None else member.wait_of(candidate)

    def survey(self, candidates: Iterable[str]) -> Survey:
        """Return the state of candidates at this moment."""
        loads, waits, unavailable = dict[str, CandidateLoad](), dict[str, float](), dict[str, str]()
        for name in candidates:
            member = self.best(name)
            if member is None:
                unavailable[name] = self._reason(name)
                member = next((m for m in self.members.values() if m.load(name)), None)
            load = member.load(name) if member else None
            if member and load:
                loads[name], waits[name] = load, member.wait_of(name)
        return Survey(loads, waits, unavailable)

    def unavailable(self, candidates: Iterable[str]) -> dict[str, str]:
        """Return why candidates cannot be made now, by name."""
        return {name: self._reason(name) for name in candidates if self.best(name) is None}

    def _reason(self, candidate: str) -> str:
        members = self.members.values()
        unknown = [m for m in members if m.status is None]
        owners = [m for m in members if m.load(candidate) is not None] or unknown
        problems = [m.problem for m in owners if m.problem]
        if owners and not problems:
            return "it failed repeatedly"
        return problems[0] if problems else "no group has it"

    @contextmanager
    def sending(self, member: Member, candidate: str, images: int) -> Iterator[None]:
        """Count a task as work of a group while the block runs."""
        seconds = member.send(candidate, images)
        try:
            yield
        finally:
            member.end(candidate, images, seconds)

    async def wait_until_able(
        self, candidates: Collection[str], deadline: float
    ) -> tuple[str, Member] | None:
        """Wait until a group can make one of some candidates; None at the deadline.

        Args:
            candidates: names of the candidates, the preferred one first.
            deadline: time on the clock.
        """
        while True:
            for candidate in candidates:
                if member := self.best(candidate):
                    return candidate, member
            left = deadline - self._clock()
            if left <= 0:
                return None
            try:
                await asyncio.wait_for(self._changed.wait(), min(left, 1.0))
            except TimeoutError:
                continue

    async def poll(self, member: Member) -> None:
        """Read the status of one group."""
        requested, was_ready = self._clock(), member.ready
        try:
            async with asyncio.timeout(POLL_TIMEOUT):
                status = await member.group.status()
        except TimeoutError:
            member.miss("not responding")
        except GroupUnavailable as error:
            member.miss(str(error), tolerated=0)
        except Exception as error:  # the polls never end: the next status may be valid
            _LOG.exception("group %s: its status cannot be used", member.name)
            member.miss(type(error).__name__)
        else:
            member.update(status, requested)
        if member.ready and not was_ready:
            self._changed.set()
            self._changed = asyncio.Event()

    async def _poll_forever(self, member: Member) -> None:
        while True:
            await self.poll(member)
            busy = member.running or member.wait
            interval = BUSY_SECONDS if busy else IDLE_SECONDS
            seconds = interval if member.ready else DOWN_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(member.failed.wait(), seconds)
            member.failed.clear()

    async def _observe_forever(self, member: Member) -> None:
        """Notice the end of a group's process at once, not with a later poll."""
        while True:
            try:
                await member.group.ended()
            except GroupUnavailable:  # the polls report it
                await asyncio.sleep(OBSERVE_SECONDS if member.ready else DOWN_SECONDS)
            else:
                member.fail("its process has ended")
                await asyncio.sleep(DOWN_SECONDS)

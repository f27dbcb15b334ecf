"""One attempt: a task on one group, with a time limit and a watchdog for groups that hang."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from catimage.serving.dispatch.members import Member
from catimage.serving.generator.failures import GroupUnavailable, TaskFailed, TaskTimedOut
from catimage.serving.messages import FinishedImage, FinishedTask, ImageTask, Preview

PATIENCE_BATCHES, PATIENCE_SECONDS = 4.0, 5.0
"""A group hangs if it has sent no event for this many of its slowest batches plus these seconds."""
REMOTE_PATIENCE = 60.0
"""Seconds without an event after which a candidate of unknown speed has failed."""


def patience(member: Member, candidate: str) -> float:
    """Return the seconds without any event after which a group is taken to hang.

    A task waits for the batches of other tasks, so the slowest candidate of the group counts.

    Args:
        member: the group.
        candidate: the candidate of the task.
    """
    loads = member.status.candidates if member.status else {}
    own = loads.get(candidate)
    if own is None or not own.seconds:
        return REMOTE_PATIENCE
    slowest = max(max(x.seconds, x.batch_seconds * x.batch_size) for x in loads.values())
    return PATIENCE_BATCHES * slowest + PATIENCE_SECONDS


class _Watchdog:
    """Ends an attempt if the group has sent no event of any task for too long."""

    def __init__(self, member: Member, seconds: float, scope: asyncio.Timeout) -> None:
        self.expired = False
        self._member, self._seconds, self._scope = member, seconds, scope
        self._loop = asyncio.get_running_loop()
        self._began = member.now()
        self._handle = self._loop.call_later(seconds, self._check)

    def _check(self) -> None:
        quiet = self._member.now() - max(self._began, self._member.last_event)
        if quiet < self._seconds:
            self._handle = self._loop.call_later(self._seconds - quiet, self._check)
            return
        self.expired = True
        self._scope.reschedule(self._loop.time())

    def close(self) -> None:
        self._handle.cancel()


async def run_task(
    member: Member, task: ImageTask, receive: Callable[[Preview | FinishedImage], None]
) -> FinishedTask:
    """Run a task on a group. Cancelling this coroutine cancels the work of the group.

    Args:
        member: the group, which counts the task already (:meth:`Fleet.sending`).
        task: the task.
        receive: receives the previews and images.

    Returns:
        The last event.

    Raises:
        TaskRefused: the candidate does not accept the prompt.
        TaskFailed: the generator failed, or the group hangs.
        GroupUnavailable: the group cannot be reached, or died.
        TaskTimedOut: the upstream server of the generator, or a group that hangs while a provider
            may be charging, did not answer in time.
        TimeoutError: the time limit of the task has passed.
        QueueFull: the group accepts no more tasks.
    """
    seconds = patience(member, task.candidate)
    watchdog, finished = None, None
    try:
        async with asyncio.timeout(task.timeout) as scope:
            watchdog = _Watchdog(member, seconds, scope)
            async with aclosing(member.group.run(task)) as events:
                async for event in events:
                    member.event()
                    if isinstance(event, FinishedTask):
                        finished = event
                    else:
                        receive(event)
    except TimeoutError as error:
        if watchdog is None or not watchdog.expired:
            raise
        message = f"group {member.name!r}: sent nothing for {seconds:.0f} s. Try again later."
        if member.is_paid(task.candidate):
            raise TaskTimedOut(message, billed=True) from error
        raise TaskFailed(message) from error
    finally:
        if watchdog is not None:
            watchdog.close()
    if finished is not None:
        return finished
    raise GroupUnavailable(f"group {member.name!r}: its response has ended early. Try again later.")

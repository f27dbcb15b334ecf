"""One attempt: a task on one group, with a time limit and a watchdog for groups that hang."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from catimage.serving.dispatch.members import Member
from catimage.serving.generator.failures import GroupUnavailable, TaskFailed
from catimage.serving.tasks import FinishedImage, FinishedTask, ImageTask, Preview

PATIENCE_BATCHES, PATIENCE_SECONDS = 4.0, 5.0
"""A group hangs if it has sent no event for this many of its slowest batches plus these seconds."""
UNMEASURED_PATIENCE = 60.0
"""The same for a candidate of unknown speed."""


def patience(member: Member, candidate: str) -> float:
    """Return the seconds without any event after which a group is taken to hang.

    A task waits for the batches of other tasks, so the slowest candidate of the group counts.

    Args:
        member: the group.
        candidate: the candidate of the task.

    Returns:
        Seconds; infinite for paid candidates, whose generator has a time limit of its own, because
        a request that is given up may still be charged.
    """
    if member.is_paid(candidate):
        return math.inf
    loads = member.status.candidates if member.status else {}
    own = loads.get(candidate)
    if own is None or not own.seconds:
        return UNMEASURED_PATIENCE
    slowest = max(max(x.seconds, x.batch_seconds * x.batch_size) for x in loads.values())
    return PATIENCE_BATCHES * slowest + PATIENCE_SECONDS


@asynccontextmanager
async def _watching(member: Member, seconds: float, scope: asyncio.Timeout) -> AsyncIterator[None]:
    """Raise TaskFailed if the group sends no event of any task for some seconds.

    Args:
        member: the group.
        seconds: the seconds.
        scope: the innermost time limit of the ``with`` block.
    """
    loop, began, expired = asyncio.get_running_loop(), member.now(), False
    timer: asyncio.TimerHandle | None = None

    def check() -> None:
        nonlocal expired, timer
        quiet = member.now() - max(began, member.last_event)
        expired = quiet >= seconds
        if expired:
            scope.reschedule(loop.time())
        else:
            timer = loop.call_later(seconds - quiet, check)

    if math.isfinite(seconds):
        timer = loop.call_later(seconds, check)
    try:
        yield
    except asyncio.CancelledError as error:
        if expired and scope.expired():
            message = f"group {member.name!r}: sent nothing for {seconds:.0f} s. Try again later."
            raise TaskFailed(message) from error
        raise
    finally:
        if timer is not None:
            timer.cancel()


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
        GroupUnavailable: the group cannot be reached, or ended.
        TaskTimedOut: the provider of the generator did not answer in time.
        TimeoutError: the time limit of the task has passed.
        QueueFull: the group accepts no more tasks.
    """
    seconds = patience(member, task.candidate)
    finished: FinishedTask | None = None
    async with (
        asyncio.timeout(task.timeout) as scope,
        _watching(member, seconds, scope),
        aclosing(member.group.run(task)) as events,
    ):
        async for event in events:
            member.event()
            if isinstance(event, FinishedTask):
                finished = event
            else:
                receive(event)
    if finished is None:
        raise GroupUnavailable(f"group {member.name!r}: its response ended early. Try again later.")
    return finished

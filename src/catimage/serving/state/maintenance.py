"""Deletion of expired rows in the background."""

from __future__ import annotations

import asyncio
import logging

from starlette.concurrency import run_in_threadpool

from catimage.serving.messages import ServingError
from catimage.serving.state.store import State

SECONDS = 60.0
"""Interval between deletions."""
_LOG = logging.getLogger(__name__)


async def purge_forever(state: State, seconds: float = SECONDS) -> None:
    """Delete expired rows in intervals, until the task is cancelled.

    Args:
        state: the shared state; several replicas may do so at the same time.
        seconds: the interval.
    """
    while True:
        try:
            await run_in_threadpool(state.purge)
        except ServingError as error:
            _LOG.warning("expired rows remain: %s", error.message)
        except Exception:  # never end: the next deletion may succeed
            _LOG.exception("expired rows cannot be deleted")
        await asyncio.sleep(seconds)

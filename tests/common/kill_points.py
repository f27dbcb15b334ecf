"""Kills of a child process at every change of the file system."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from catimage.common import replacement

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.move"}


def killed_before(change: int, function: Callable[[], object]) -> bool:
    """Run a function in a forked process that is killed before a change of the file system.

    Args:
        change: the number of the change, from 1.
        function: the function; an exception in it is an error of the test.

    Returns:
        False if the function ended before that change.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _count_changes(change)
            function()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def _count_changes(change: int) -> None:
    """Kill this process before the given change; exchanges of names are counted, too."""
    count = 0

    def next_change(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in _CHANGES or (event == "open" and arguments[1] in ("w", "wb", "x", "a")):
            count += 1
            if count == change:
                os.kill(os.getpid(), signal.SIGKILL)

    exchange = replacement._exchange

    def counted_exchange(first: Any, second: Any) -> bool:
        next_change("os.rename", ())
        return exchange(first, second)

    replacement._exchange = counted_exchange
    sys.addaudithook(next_change)

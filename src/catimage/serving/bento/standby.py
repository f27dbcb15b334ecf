"""A parent process that has imported the libraries, and replaces a killed generator process.

Importing torch, diffusers and transformers takes most of the time of a start. The process that the
supervisor starts imports them, and serves in a child process, with which it shares the memory. If
the child is killed, for example because the memory is exhausted, it starts another one.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable

from catimage.pool.spec import Pool
from catimage.serving.bento.mapped_pages import release_unchanged_pages

CHECK_SECONDS = 0.5
"""Interval at which the parent process checks whether the supervisor runs."""
SHORTEST_SECONDS = 3.0
"""A child that ends earlier after its start is not replaced: the parent process ends, too, and the
supervisor starts it again.
"""
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
_LOG = logging.getLogger(__name__)


def import_libraries(pool: Pool, device: str, generators: Iterable[str]) -> bool:
    """Import the libraries of generators, and check these, as the engine does again later.

    Args:
        pool: the pool.
        device: a device name of torch, or ``auto``.
        generators: names of the generators.

    Returns:
        Whether child processes can use the libraries: the device is a CPU, since a GPU cannot be
        used after a fork, and no generator has a problem, which the engine is to report.
    """
    from catimage.common.devices import device_of
    from catimage.pool.generator_cache import GeneratorCache
    from catimage.pool.registry import kind_class

    local = [name for name in generators if not kind_class(pool.generators[name].kind).remote]
    gc.disable()  # importing makes no garbage, and collections take more than 7% of its time
    try:
        if not local or device_of(device) != "cpu":
            return False
        GeneratorCache(pool, device, local).prepare()
    except Exception as error:  # of any type; the engine repeats the check and reports the problem
        _LOG.warning("no process in standby (%s)", type(error).__name__)
        return False
    finally:
        gc.enable()
    return threading.active_count() == 1


def serve_in_child(cleanup: Callable[[], None]) -> None:
    """Return in a child process, and in another one whenever it has ended; never in this process.

    SIGTERM and SIGINT are passed on to the child process; this process ends after it. If the
    supervisor ends, the child process receives SIGTERM.

    Args:
        cleanup: removes files that the supervisor has left if it has ended.
    """
    supervisor = os.getppid()
    gc.collect()
    gc.freeze()  # the collector would copy the pages of all objects in the child process
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    while True:
        started, child = time.monotonic(), os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return
        release_unchanged_pages()  # this process only waits
        code, stopping = _wait(child, supervisor)
        if os.getppid() != supervisor:
            cleanup()
        if stopping or time.monotonic() - started < SHORTEST_SECONDS:
            os._exit(abs(code))
        _LOG.warning("the process has ended with status %d and is started again", code)


def _wait(child: int, supervisor: int) -> tuple[int, bool]:
    """Wait until a child process has ended.

    Returns:
        Its exit status, negative after a signal, and whether this process is to end.
    """
    stopping = False
    while True:
        received = signal.sigtimedwait(_SIGNALS, CHECK_SECONDS)
        number = received.si_signo if received else 0
        if number in (signal.SIGTERM, signal.SIGINT):
            stopping = True
        elif not stopping and os.getppid() != supervisor:
            number, stopping = signal.SIGTERM, True
        else:
            number = 0
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), stopping
        if number:
            os.kill(child, number)

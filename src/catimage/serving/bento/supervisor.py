"""The supervisor of ``bentoml serve``: restarts processes at once, and stops them in order.

BentoML starts all services of a Bento under a supervisor of the package circus. By default, it
notices after up to 10 seconds that a process has ended, restarts none in a container, and stops all
processes at the same time after it has removed the sockets between them.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from catimage.serving.bento.process import STOP_SIGNAL

CHECK_SECONDS = 0.5
"""Interval at which the supervisor checks for processes that have ended."""
KILL_SECONDS = 10.0
"""Time after ``drain_seconds`` after which a process that has not ended is killed."""
PROCESS_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "GOMP_SPINCOUNT": "10000"}
"""Environment of the processes, unless it is set. By default, idle threads of OpenMP use a core for
some milliseconds each time, which slows down the other process several times on a busy machine. If
they never waited actively (``OMP_WAIT_POLICY=PASSIVE``), a generator would take twice as long.
"""
ROUTER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment of the router process, whose matrices and texts are too small for several threads."""
NAME = "Supervisor"
"""Name of the class."""
ROUTER_WATCHER = "service"
"""BentoML's name of the watcher of the main service."""
LISTENER = "_bento_api_server"
"""BentoML's name of the socket of the main service."""

_LOG = logging.getLogger(__name__)


def install(drain_seconds: float) -> None:
    """Replace the class of the supervisor that BentoML starts next in this process.

    Args:
        drain_seconds: seconds that accepted requests have to finish; the environment variable
            ``CATIMAGE_SERVING__DRAIN_SECONDS`` replaces it.
    """
    circus: Any = import_module("bentoml._internal.utils.circus")
    for name, value in PROCESS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if circus.Arbiter.__name__ != NAME:
        timeout = drain_time(drain_seconds) + KILL_SECONDS
        circus.Arbiter = _supervisor_class(circus.Arbiter, timeout)


def drain_time(drain_seconds: float) -> float:
    """Return ``CATIMAGE_SERVING__DRAIN_SECONDS``, or ``drain_seconds`` if it is not set."""
    return float(os.environ.get("CATIMAGE_SERVING__DRAIN_SECONDS") or drain_seconds)


def _supervisor_class(base: type[Any], timeout: float) -> type[Any]:
    """Return a subclass of BentoML's supervisor that kills processes after ``timeout`` seconds."""
    from circus.exc import ConflictError
    from tornado import gen

    class Supervisor(base):  # type: ignore[misc]
        stop_requested = False

        def __init__(self, watchers: list[Any], **options: Any) -> None:
            super().__init__(watchers, **options | {"check_delay": CHECK_SECONDS})
            metrics = _prepare(watchers, timeout)
            self.exit_stack.callback(shutil.rmtree, metrics, ignore_errors=True)

        def manage_watchers(self) -> Any:
            if self.stop_requested or self._exclusive_running_command is not None:
                return gen.sleep(0)
            return super().manage_watchers()

        def stop(self) -> Any:
            if self.stop_requested:
                _kill_all(self.iter_watchers())
                return gen.sleep(0)
            self.stop_requested = True
            return self.stop_in_order()

        @gen.coroutine
        def stop_in_order(self) -> Any:
            """Stop the router, which completes accepted requests, and then the generators."""
            _close_listener(self.sockets)
            yield [w._stop() for w in self.iter_watchers() if w.name == ROUTER_WATCHER]
            while True:
                try:
                    yield base.stop(self)
                    return
                except ConflictError:  # a command of the supervisor runs
                    yield gen.sleep(CHECK_SECONDS)

    return Supervisor


def _prepare(watchers: Iterable[Any], timeout: float) -> str:
    """Set the options of the processes.

    Returns:
        The folder of their metrics, which is not shared with other services.
    """
    metrics = tempfile.mkdtemp(prefix="catimage-metrics-")
    for watcher in watchers:
        watcher.respawn, watcher.graceful_timeout = True, timeout
        watcher.stop_children = False  # a process passes the signal on to its own children
        watcher.env["PROMETHEUS_MULTIPROC_DIR"] = metrics
        if watcher.name == ROUTER_WATCHER:
            watcher.stop_signal = STOP_SIGNAL
            watcher.env.update({k: v for k, v in ROUTER_ENVIRONMENT.items() if k not in os.environ})
    return metrics


def _close_listener(sockets: Mapping[str, Any]) -> None:
    """Close this process's copy of the socket that clients connect to.

    The router answers on its own copy while it completes accepted requests. When it ends,
    connections are refused, and do not wait for a process that never accepts them.
    """
    if LISTENER in sockets:
        sockets[LISTENER].close()


def _kill_all(watchers: Iterable[Any]) -> None:
    """Kill all processes, for the second signal."""
    _LOG.warning("second signal: the processes are killed")
    for watcher in watchers:
        for process in list(watcher.processes.values()):
            watcher.send_signal_process(process, signal.SIGKILL, recursive=True)

"""``dvc repro`` for one stage in its own process group, with a limit of time.

The process group ends with the process that started it, also if that process is killed
(:mod:`flows.stage_guard`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from catimage.common.replacement import is_running

from .stage_guard import STOP_SECONDS

GUARD = str(Path(__file__).with_name("stage_guard.py"))
"""The program that ends a process group with its owner."""
_STAGE_STATUS = re.compile(rb"failed to run: .*, exited with (-?\d+)")
"""DVC's message about a stage whose command failed, with the exit status of the command."""
_TAIL_BYTES = 20_000


@dataclass(frozen=True)
class Outcome:
    """The end of ``dvc repro``.

    Attributes:
        status: the exit status of DVC; negative if a signal ended it.
        stage_status: the exit status of the command of the stage; None if DVC reports none.
        timed_out: whether the time ran out.
    """

    status: int
    stage_status: int | None
    timed_out: bool

    @property
    def is_transient(self) -> bool:
        """Whether the stage may succeed if it runs again.

        An error of a device or a disk (status 1) and a kill are transient. Invalid input (status
        2), a missing command, an error of DVC and a timeout are not.
        """
        if self.timed_out:
            return False
        status = self.stage_status
        killed = self.status < 0 if status is None else status < 0 or status > 128
        return killed or status == 1


def reproduce(stage: str, workspace: Path, seconds: float, log: Callable[[str], None]) -> Outcome:
    """Run ``dvc repro`` for a stage; see :func:`run_command`."""
    return run_command(["-m", "dvc", "repro", stage], workspace, seconds, log)


def run_command(
    arguments: Sequence[str], folder: Path, seconds: float, log: Callable[[str], None]
) -> Outcome:
    """Run Python with arguments in its own process group.

    If the time runs out, or the caller is interrupted or killed, the process group ends: by
    SIGTERM, and by SIGKILL ten seconds later at the latest. No process of the group is left.

    Args:
        arguments: the arguments of the interpreter.
        folder: the working directory.
        seconds: the longest time of the run.
        log: a function that is called with each line that is printed on standard output. Standard
            error is passed through.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", GUARD, sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin and process.stdout and process.stderr
    tail = bytearray()
    reader = threading.Thread(target=_pass_through, args=(process.stderr, tail), daemon=True)
    reader.start()
    with _ended(process), _limit(process, seconds) as expired:
        for line in process.stdout:
            log(line.decode(errors="replace").rstrip())
        status = process.wait()
    reader.join(STOP_SECONDS)
    match = _STAGE_STATUS.findall(bytes(tail))
    return Outcome(status, int(match[-1]) if match else None, expired.is_set())


def is_dvc_busy(workspace: Path) -> bool:
    """Return whether another process holds DVC's lock on the repository or on files in it.

    DVC leaves the entries of killed processes in its lock of files; these are ignored, as DVC does.
    """
    import zc.lockfile
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        folder = Path(Repo.find_root(str(workspace))) / ".dvc" / "tmp"
    except NotDvcRepoError:
        return False
    if any(is_running(pid) for pid in _lock_holders(folder / "rwlock")):
        return True
    try:
        zc.lockfile.LockFile(str(folder / "lock")).close()
    except zc.lockfile.LockError:
        return True
    return False


def _lock_holders(path: Path) -> set[int]:
    """Return the numbers of the processes in DVC's lock of files."""
    try:
        locks = json.loads(path.read_text() or "{}")
    except FileNotFoundError:
        return set()
    readers = [entry for entries in locks.get("read", {}).values() for entry in entries]
    return {int(entry["pid"]) for entry in [*readers, *locks.get("write", {}).values()]}


def _pass_through(stream: IO[bytes], tail: bytearray) -> None:
    """Copy a stream to standard error, and keep its last bytes in ``tail``."""
    while chunk := os.read(stream.fileno(), 4096):
        os.write(2, chunk)
        tail += chunk
        del tail[:-_TAIL_BYTES]


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process group after the ``with`` block, also if a cancelled run interrupts it."""
    try:
        yield
    finally:
        if process.poll() is None:
            _end_group(process)
        else:
            _signal_group(process, signal.SIGKILL)  # processes that the stage has left


@contextmanager
def _limit(process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """End the process group if the ``with`` block takes too long; the event is then set."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _end_group(process)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and the processes that it has started."""
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)

"""``dvc repro`` for one stage in its own process group, with a limit of time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from catimage.common.replacement import is_running

_STAGE_STATUS = re.compile(rb"failed to run: .*, exited with (-?\d+)")
"""DVC's message about a stage whose command failed, with the exit status of the command."""
_TAIL_BYTES = 20_000
_STOP_SECONDS = 10.0
"""The longest time from SIGTERM to SIGKILL."""


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
    """Run ``dvc repro`` for a stage.

    If the time runs out, or the caller is interrupted, the process group ends: by SIGTERM, and by
    SIGKILL ten seconds later at the latest.

    Args:
        stage: the name of the stage.
        workspace: the folder of ``dvc.yaml``.
        seconds: the longest time of the run.
        log: a function that is called with each line that DVC and the stage print on standard
            output. Standard error is passed through.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", stage],
        cwd=workspace,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout and process.stderr
    tail = bytearray()
    reader = threading.Thread(target=_pass_through, args=(process.stderr, tail), daemon=True)
    reader.start()
    with _ended(process), _limit(process, seconds) as expired:
        for line in process.stdout:
            log(line.decode(errors="replace").rstrip())
        status = process.wait()
    reader.join(_STOP_SECONDS)
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
    """End the process group if the ``with`` block is interrupted, as by a cancelled flow run."""
    try:
        yield
    finally:
        if process.poll() is None:
            _end_group(process)


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
        process.wait(_STOP_SECONDS)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)

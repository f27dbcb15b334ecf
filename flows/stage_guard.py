"""Runs a command, and ends it with all its processes if the process that started it dies.

Usage: ``python stage_guard.py COMMAND ...``. The standard input is a pipe from the process that
started this one. The kernel closes the pipe if that process ends, also by SIGKILL. This process
leads a process group, to which the command and its processes belong.

The module imports only the standard library, so that it starts quickly.
"""

import os
import signal
import subprocess
import sys
import threading
import time

STOP_SECONDS = 10.0
"""The longest time from SIGTERM to SIGKILL."""


def run(command: list[str]) -> int:
    """Run a command, and return its exit status; negative if a signal ended it."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # the command gets SIGTERM too, and ends first
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_owner, args=(process,), daemon=True).start()
    return process.wait()


def _end_with_owner(process: subprocess.Popen[bytes]) -> None:
    """Wait until the owner of the pipe ends, then end the process group."""
    while os.read(0, 1):
        pass
    group = os.getpgrp()
    os.killpg(group, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Run the command of the arguments, and end as it does."""
    status = run(sys.argv[1:])
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()

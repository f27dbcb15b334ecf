"""Runs functions and commands in a forked process, which has the imports of the tests."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
SECONDS = 300
"""Longest run of a forked process."""


def start(function: Callable[[], object], output: Path | None = None) -> int:
    """Call a function in a forked process, and return the id of the process.

    Args:
        function: the function.
        output: the file for the function's result as JSON.
    """
    child = os.fork()
    if child:
        return child
    try:
        signal.alarm(SECONDS)
        result = function()
        if output is not None:
            output.write_text(json.dumps(result))
        os._exit(0)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(1)


def exit_status(child: int) -> int:
    """Wait for a process, and return its exit status, or minus the number of its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def result_of(function: Callable[[], object], folder: Path) -> Any:
    """Return the result of a function in a forked process; a file in ``folder`` transports it."""
    output = folder / "forked.json"
    assert exit_status(start(function, output)) == 0
    return json.loads(output.read_text())


def run_commands(commands: list[list[str]]) -> list[tuple[int, str]]:
    """Run command lines, and return the exit status and the standard error of each."""
    return [_run_command(command) for command in commands]


def _run_command(command: list[str]) -> tuple[int, str]:
    from catimage.cli.app import main

    status, error = 0, io.StringIO()
    sys.argv = ["catimage", *command]
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return status, error.getvalue()


def enter_namespace(*, root: bool) -> None:
    """Move this process, which has one thread, to a new namespace of users and of mounts.

    Args:
        root: whether the process has the privileges of root there, such as to mount; otherwise, it
            loses them.
    """
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER | _NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    if root:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def shell(script: str) -> None:
    """Run a shell command."""
    subprocess.run(["bash", "-c", script], check=True)


def read_only(folder: Path) -> str:
    """Return the shell command that makes a folder read-only, in a namespace."""
    return f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"


def _can_mount() -> bool:
    """Return whether this user may mount file systems in a namespace."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    command += ["mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


needs_mount = pytest.mark.skipif(not _can_mount(), reason="needs a user namespace that may mount")

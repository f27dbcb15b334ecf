"""Waits for a service in another process."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import httpx
import pytest


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Wait until ``/readyz`` answers 200; fail with the log of the process if it does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass  # it does not listen yet, or is still loading
        time.sleep(0.1)
    pytest.fail(f"the service is not ready:\n{log.read_text()}")

"""Runs a flow once from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from prefect.client.schemas import State
from prefect.settings import (
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from catimage.common.proxies import bypass_proxies_for_local_addresses


def run_once(call: Callable[[], State[Any]]) -> None:
    """Call a flow and print its result; start a temporary Prefect server if none is configured.

    If the run does not complete, the process exits with status 1 and the message of the run.

    Args:
        call: calls the flow and returns its final state.
    """
    bypass_proxies_for_local_addresses()
    settings = {
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
    }
    with temporary_settings(settings):
        state = call()
    if not state.is_completed():
        sys.exit(f"catimage: {state.message}")
    print(f"\n{state.result()}", flush=True)

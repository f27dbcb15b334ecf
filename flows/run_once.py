"""Runs a flow once from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.client.schemas import State
from prefect.settings import (
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_RETRY_EXTRA_CODES,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from catimage.common.proxies import bypass_proxies_for_local_addresses

OUTAGE_SETTINGS = {PREFECT_CLIENT_MAX_RETRIES: 6, PREFECT_CLIENT_RETRY_EXTRA_CODES: "500"}
"""Settings with which a run bridges an outage of the Prefect server or its database of two minutes:
requests are repeated after 2, 4, 8, 16, 32 and 64 seconds, also if the server answers that its
database does not respond, which it does with status 500. ``prefect.yaml`` has them too.
"""


def workspace_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the command line of a flow, with the option ``--workspace``.

    Args:
        description: what the flow does, for ``--help``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workspace", type=Path, default=Path(), help="the folder of params.yaml")
    return parser


def run_once(call: Callable[[], State[Any]]) -> None:
    """Call a flow and print its result; start a temporary Prefect server if none is configured.

    If the run does not complete, the process exits with status 1 and the message of the run.

    Args:
        call: calls the flow and returns its final state.
    """
    bypass_proxies_for_local_addresses()
    settings = {
        **OUTAGE_SETTINGS,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
    }
    with temporary_settings(settings):
        state = call()
    if not state.is_completed():
        sys.exit(f"catimage: {state.message}")
    print(f"\n{state.result()}", flush=True)

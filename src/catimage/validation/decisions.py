"""The suite of the decision log: rows that traffic cannot have produced.

Drift, cost and quality of the traffic are the subject of :mod:`catimage.monitoring`. These
expectations find rows that are wrong: without them, a wrong propensity or cost would bias the
off-policy estimates and the labels that are learned from traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations import ExpectationSuite
from great_expectations.expectations.expectation import Expectation

from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError
from catimage.validation.failures import FailedExpectation

FRAME = "decisions"
"""The name of the frame."""
TOLERANCE = 1e-6
"""The largest rounding error of the sum of the propensities."""
REQUIRED = ("request_id", "time", "candidate", "cost")
"""The columns that every row needs."""
PROBLEMS: Mapping[str, str] = {
    "request_id": "no request_id",
    "time": "no time",
    "candidate": "no candidate",
    "cost": "a negative or missing cost",
    "seconds": "a negative time",
    "status": "an invalid status",
    "propensity_sum": "propensities that do not add up to 1",
    "propensity": "a propensity of the chosen candidate that is not above 0",
    "wrong_id": "a prompt_id that is not the hash of the prompt",
}
"""The problem of a row by the column whose expectation it does not meet."""


def suite() -> ExpectationSuite:
    """Return the suite of the decision log."""
    expectations: list[Expectation] = [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in REQUIRED),
        gxe.ExpectColumnValuesToBeBetween(column="cost", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="seconds", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="status", min_value=100, max_value=599),
        gxe.ExpectColumnValuesToBeBetween(
            column="propensity_sum", min_value=1 - TOLERANCE, max_value=1 + TOLERANCE
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="propensity", min_value=0, strict_min=True, max_value=1 + TOLERANCE
        ),
        gxe.ExpectColumnValuesToBeBetween(column="wrong_id", min_value=0, max_value=0),
    ]
    return ExpectationSuite(name=FRAME, expectations=expectations)


def decision_frame(decisions: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that the suite checks, and those that it compares.

    Args:
        decisions: rows of :func:`catimage.data.decisions.read_decisions`.
    """
    frame = decisions[["request_id", "time", "candidate", "cost", "seconds", "status"]].copy()
    pairs = list(zip(decisions["propensities"], decisions["candidate"], strict=True))
    frame["propensity_sum"] = [sum(p.values()) if p else np.nan for p, _ in pairs]
    frame["propensity"] = [p.get(name, 0.0) if p else np.nan for p, name in pairs]
    texts = zip(decisions["prompt"], decisions["prompt_id"], strict=True)
    frame["wrong_id"] = [
        int(isinstance(text, str) and prompt_id(text) != identifier) for text, identifier in texts
    ]
    return frame


def check_decisions(decisions: pd.DataFrame, docs: Path) -> None:
    """Check rows of the decision log.

    Args:
        decisions: rows of :func:`catimage.data.decisions.read_decisions`.
        docs: the folder of the Data Docs (HTML), which is replaced.

    Raises:
        InputError: rows do not meet an expectation.
    """
    from catimage.validation.runner import run

    if decisions.empty:
        return
    outcome = run({FRAME: suite()}, {FRAME: decision_frame(decisions)}, {}, docs)
    if outcome.failures:
        found = "; ".join(_sentence(failed) for failed in outcome.failures)
        raise InputError(
            f"decision log: {found}. Move the files with these rows to another folder, and find"
            f" the version of the service that wrote them. {docs / 'index.html'} lists all rows."
        )


def _sentence(failed: FailedExpectation) -> str:
    """Return the problem of an expectation, the number of rows, and the first one."""
    first: dict[str, Any] = dict(failed.rows[0]) if failed.rows else {}
    example = f", such as request_id={first.get('request_id')}" if first else ""
    column = failed.columns[0] if failed.columns else ""
    return f"{PROBLEMS.get(column, column)} in {failed.count:,} rows{example}"

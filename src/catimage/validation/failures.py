"""Failed expectations, and the sentences about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catimage.data.prompts.identity import split_percentages
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES
from catimage.validation.frames import KEYS
from catimage.validation.messages import MESSAGES, SCHEMA_EXPECTATIONS, ExpectationKey
from catimage.validation.suites import Kind

COMMANDS: dict[Kind, tuple[str, str, str]] = {
    "generated": ("sample", "generate", "label"),
    "images": ("import-images", "import-images", "label"),
    "imported": ("import-scores", "import-scores", "import-scores"),
}
"""By kind of data, the commands that write the tables of prompts, candidates and scores."""
FILES = {
    "prompts": "data/prompts.parquet",
    "splits": "data/prompts.parquet",
    "similarity": "data/prompts.parquet",
    "candidates": "data/candidates.parquet",
    "images": "data/images",
}
"""The table that a frame is about, if it is not ``data/scores.parquet``."""
_COMMAND_OF_FILE = {
    "data/prompts.parquet": 0,
    "data/candidates.parquet": 1,
    "data/images": 1,
    "data/scores.parquet": 2,
}
_SCHEMAS = {"prompts": PROMPTS, "candidates": CANDIDATES, "scores": SCORES}


@dataclass(frozen=True)
class FailedExpectation:
    """An expectation that a frame does not meet.

    Attributes:
        frame: the name of the frame.
        expectation: its type without ``expect_``.
        columns: the columns that are compared.
        count: the number of rows that do not meet it; 0 if it is not about rows.
        rows: examples of such rows, with the columns that identify them.
        description: the description that the author of an added expectation has given.
    """

    frame: str
    expectation: str
    columns: Sequence[str]
    count: int
    rows: Sequence[Mapping[str, Any]]
    description: str | None = None

    @property
    def key(self) -> ExpectationKey:
        """The key of the expectation in :data:`MESSAGES`."""
        return self.frame, self.expectation, ", ".join(self.columns)


@dataclass(frozen=True)
class DataProblem:
    """A problem of the data, described in English.

    Attributes:
        file: the file, relative to the workspace.
        problem: the problem.
        fix: how to fix it.
    """

    file: str
    problem: str
    fix: str


def describe(failed: FailedExpectation, kind: Kind, gate_share: float) -> DataProblem:
    """Return the sentence about a failed expectation.

    Args:
        failed: the failed expectation.
        kind: the kind of the data, which determines the command that writes a table.
        gate_share: the share of the prompts in the split ``gate``.
    """
    problem, fix = _templates(failed)
    percentages = split_percentages(gate_share)
    file = FILES.get(failed.frame, "data/scores.parquet")
    command = COMMANDS[kind][_COMMAND_OF_FILE[file]]
    values = {
        "rows": _rows(failed),
        "names": _enumeration([str(row[KEYS[failed.frame][0]]) for row in failed.rows]),
        "columns": ", ".join(failed.columns),
        "splits": ", ".join(percentages),
        "shares": "/".join(f"{share:g}" for share in percentages.values()),
        "again": f"Run 'catimage {command}' again",
    }
    return DataProblem(file, problem.format(**values), fix.format(**values))


def _enumeration(names: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    *first, last = names or ["unknown"]
    return f"{', '.join(first)} and {last}" if first else last


def _templates(failed: FailedExpectation) -> tuple[str, str]:
    """Return the templates of the problem and of its fix."""
    schema = _SCHEMAS.get(failed.frame)
    if failed.key in MESSAGES:
        return MESSAGES[failed.key]
    columns_match, has_type, not_null = SCHEMA_EXPECTATIONS
    if schema is not None and failed.expectation == columns_match:
        return f"the columns are not {', '.join(schema.names)}", "{again}"
    if schema is not None and set(failed.columns) <= set(schema.names):
        if failed.expectation == has_type:
            return "the column {columns} has values of another type", "{again}"
        if failed.expectation == not_null:
            state = "empty in {rows}" if failed.count else "missing"
            return f"the column {{columns}} is {state}", "{again}"
    description = (failed.description or "").replace("{", "{{").replace("}", "}}").rstrip(".")
    return (
        f"{description or 'the data do not meet an expectation that was added to the suites'}:"
        " {columns} in {rows}",
        "Correct the data, or the suite in expectations/suites",
    )


def _rows(failed: FailedExpectation) -> str:
    """Return the number of rows and examples of them: ``2 rows, such as prompt_id=...``."""
    if not failed.count:
        return "some rows"
    number = "1 row" if failed.count == 1 else f"{failed.count:,} rows"
    examples = "; ".join(
        ", ".join(f"{name}={value}" for name, value in _identity(failed, row).items())
        for row in failed.rows
    )
    return f"{number}, such as {examples}" if examples else number


def _identity(failed: FailedExpectation, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that identify it, and the compared column of the table."""
    keys, schema = KEYS[failed.frame], _SCHEMAS.get(failed.frame)
    compared = [name for name in failed.columns if schema is not None and name in schema.names]
    return {name: row[name] for name in dict.fromkeys([*keys, *compared]) if name in row}

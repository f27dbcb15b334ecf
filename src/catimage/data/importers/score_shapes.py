"""The two shapes of files of scores: one score per row, and one column per candidate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from catimage.common.arrays import Ints
from catimage.common.names import check_name
from catimage.data.importers.columns import (
    PromptTexts,
    bad_cell,
    parse_names,
    parse_numbers,
    parse_or_number_seeds,
    parse_prompts,
    repeated,
    to_floats,
)
from catimage.data.importers.text_table import TextTable
from catimage.errors import InputError

LONG_COLUMNS = ("prompt", "candidate", "seed", "metric", "value")
DEFAULT_METRIC = "score"
"""The name of the metric if neither the file nor the user names it."""
OTHER_COLUMNS = frozenset(
    "prompt prompt_id id index row seed metric version split source cost unit".split()  # noqa: SIM905
)
"""Columns that are not candidates even if they contain numbers."""
SAMPLE = 1000
"""The number of cells that determine whether a column has numbers."""


def is_long(rows: TextTable) -> bool:
    """Return whether a file has one score per row; otherwise it has one column per candidate."""
    return "candidate" in rows.names or "value" in rows.names


def long_scores(rows: TextTable, metric: str) -> tuple[PromptTexts, pd.DataFrame, Ints]:
    """Read a file with one score per row.

    Args:
        rows: the file; the columns ``seed`` and ``metric`` are optional.
        metric: the name of the metric if the file has no column ``metric``.

    Returns:
        The prompts; the scores, with ``text`` (the position of the text of the prompt),
        ``candidate``, ``metric``, ``seed`` and ``value``; and the row number of each score.

    Raises:
        InputError: a column is missing, or a prompt, name, seed or value is invalid.
    """
    rows.require("prompt", "candidate", "value")
    prompts = parse_prompts(rows)
    table = pd.DataFrame(
        {
            "text": prompts.codes,
            "candidate": parse_names(rows, "candidate", slashes=True),
            "metric": parse_names(rows, "metric") if "metric" in rows.names else metric,
        }
    )
    table["seed"] = parse_or_number_seeds(rows, table[["text", "candidate", "metric"]])
    table["value"] = parse_numbers(rows, "value")
    return prompts, table, rows.row_numbers


def wide_scores(
    rows: TextTable, metric: str, candidates: Sequence[str] | None
) -> tuple[PromptTexts, pd.DataFrame, Ints]:
    """Read a file with one column per candidate; an empty cell is a missing score.

    Args:
        rows: the file; the columns ``seed`` and ``metric`` are optional.
        metric: the name of the metric if the file has no column ``metric``.
        candidates: the names of the candidates. If they are unknown, the candidates are the columns
            of numbers, except :data:`OTHER_COLUMNS`.

    Returns:
        As :func:`long_scores`; the scores of a row of the file follow one another.

    Raises:
        InputError: there is no column of a candidate, or a prompt, name, seed or value is invalid.
    """
    rows.require("prompt")
    columns = candidate_columns(rows, candidates)
    rows.require(*columns)
    prompts = parse_prompts(rows)
    keys = pd.DataFrame({"text": prompts.codes})
    keys["metric"] = parse_names(rows, "metric") if "metric" in rows.names else metric
    keys["seed"] = parse_or_number_seeds(rows, keys[["text", "metric"]])
    values = np.stack([_wide_values(rows, column) for column in columns], axis=1)
    row, column = np.nonzero(~np.isnan(values))
    table = keys.take(row).reset_index(drop=True)
    table["candidate"] = repeated(columns, column)
    table["value"] = values[row, column]
    return prompts, table, rows.row_numbers[row]


def candidate_columns(rows: TextTable, candidates: Sequence[str] | None) -> list[str]:
    """Return the columns that are candidates, in the order of the file; see :func:`wide_scores`.

    Raises:
        InputError: no column is a candidate, or only one that the user has not named, or the name
            of a column cannot be the name of a candidate.
    """
    columns = [name for name in rows.names if name in (candidates or ())]
    if not columns:
        columns = [
            name
            for name in rows.names
            if name.lower() not in OTHER_COLUMNS
            and not name.lower().startswith("unnamed:")
            and name
            and _is_numeric(rows, name)
        ]
        if len(columns) < 2:
            raise InputError(
                f"{rows.path}: the columns {', '.join(rows.names[:12])} are neither"
                f" {','.join(LONG_COLUMNS)} (one score per row) nor a prompt and one column of"
                " numbers per candidate. Rename the columns."
            )
    for name in columns:
        check_name(name, f"{rows.path}: the candidate", slashes=True)
    return columns


def _is_numeric(rows: TextTable, column: str) -> bool:
    """Return whether at least half of the first cells that are not empty are numbers."""
    if rows.names.count(column) > 1:
        return True  # the file is refused
    cells = pc.utf8_trim_whitespace(rows.cells(column))
    cells = cells.filter(pc.not_equal(cells, "")).slice(0, SAMPLE)
    numbers = ~np.isnan(to_floats(cells, rows.decimal_comma))
    return bool(len(cells)) and bool(numbers.mean() >= 0.5)


def _wide_values(rows: TextTable, column: str) -> np.ndarray:
    """Return the scores of a candidate, (n_rows,), NaN where the cell is empty."""
    cells = rows.cells(column)
    empty = np.asarray(pc.equal(pc.utf8_trim_whitespace(cells), ""))
    values = to_floats(cells, rows.decimal_comma)
    invalid = ~np.isfinite(values) & ~empty
    if invalid.any():
        position = int(invalid.argmax())
        raise bad_cell(rows, f"value of {column!r}", cells, position, "a finite number")
    return np.where(empty, np.nan, values)

"""The suite of the decision log: valid rows, and each kind of invalid row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError
from catimage.validation.decisions import check_decisions


def decisions(n: int = 6) -> pd.DataFrame:
    """Return valid rows; every second one has no prompt."""
    rows: list[dict[str, Any]] = []
    for i in range(n):
        text = f"a red ring number {i}"
        rows.append(
            {
                "request_id": f"r{i}",
                "time": pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(minutes=i),
                "prompt": text if i % 2 else None,
                "prompt_id": prompt_id(text),
                "candidate": "a",
                "propensities": {"a": 0.9, "b": 0.1},
                "cost": 1.0,
                "seconds": 0.5,
                "status": 200,
            }
        )
    return pd.DataFrame(rows)


def test_valid_rows_and_an_empty_log_pass(tmp_path: Path) -> None:
    check_decisions(decisions(), tmp_path / "docs")
    assert (tmp_path / "docs" / "index.html").exists()
    check_decisions(decisions(0), tmp_path / "none")
    assert not (tmp_path / "none").exists()


INVALID = [
    ("candidate", None, "no candidate in 1 rows"),
    ("cost", -1.0, "a negative or missing cost in 1 rows"),
    ("cost", float("nan"), "a negative or missing cost in 1 rows"),
    ("seconds", -0.1, "a negative time in 1 rows"),
    ("status", 0, "an invalid status in 1 rows"),
    ("propensities", {"a": 0.5, "b": 0.1}, "propensities that do not add up to 1 in 1 rows"),
    ("propensities", {"b": 1.0}, "a propensity of the chosen candidate that is not above 0"),
    ("prompt", "another text", "a prompt_id that is not the hash of the prompt in 1 rows"),
]


@pytest.mark.parametrize(("column", "value", "sentence"), INVALID)
def test_an_invalid_row_is_reported_with_its_request(
    tmp_path: Path, column: str, value: object, sentence: str
) -> None:
    rows = decisions()
    rows[column] = rows[column].astype(object)
    rows.at[3, column] = value
    with pytest.raises(InputError) as raised:
        check_decisions(rows, tmp_path)
    message = str(raised.value)
    assert message.startswith(f"decision log: {sentence}") and "request_id=r3" in message

"""The prompts in the decision log."""

from __future__ import annotations

from pathlib import Path

import pytest

from catimage.data.decisions import read_decisions
from catimage.data.prompts.identity import prompt_id
from catimage.data.prompts.logged import COLUMNS, logged_prompts
from catimage.errors import InputError
from tests.decision_rows import decision_row, save_decisions


def test_distinct_prompts_of_answered_requests_are_returned_the_newest_first(
    tmp_path: Path,
) -> None:
    rows = [
        decision_row(0, "a red moon", user="u1"),
        decision_row(1, "a  blue\tcube", user="u2"),
        decision_row(2, "refused", status=400),
        decision_row(3, None),
        decision_row(4, "a red  moon"),
        decision_row(5, "long " * 20),
        decision_row(6, "a red moon", user="u3"),
        decision_row(7, "a red moon", user="u1"),
    ]
    save_decisions(tmp_path, rows)
    logged = logged_prompts(read_decisions(tmp_path), 30)
    assert list(logged.table.columns) == list(COLUMNS)
    assert logged.table["prompt"].tolist() == ["a red moon", "a blue cube"]
    assert logged.table["prompt_id"].tolist() == [prompt_id(p) for p in logged.table["prompt"]]
    assert logged.table["users"].tolist() == [["u1", "u3"], ["u2"]]
    assert [t.minute for t in logged.table["time"]] == [7, 1]
    assert logged.n_too_long == 1


def test_a_log_without_prompts_has_none_and_an_invalid_prompt_is_named(tmp_path: Path) -> None:
    save_decisions(tmp_path, [decision_row(0, None), decision_row(1, "moon", status=499)])
    assert len(logged_prompts(read_decisions(tmp_path), 30).table) == 0
    save_decisions(tmp_path, [decision_row(2, " ")])
    with pytest.raises(InputError, match="decision log, request request 2: the prompt is empty"):
        logged_prompts(read_decisions(tmp_path), 30)

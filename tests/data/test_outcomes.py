"""Logged outcomes: which scored decisions are used."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from catimage.data import outcomes
from catimage.data.decisions import read_decisions
from catimage.data.outcomes import logged_outcomes, merged_outcomes
from catimage.data.traffic import OUTCOMES
from catimage.errors import InputError
from tests.decision_rows import NOON, decision_row, save_decisions


@pytest.fixture
def decisions(tmp_path: Path) -> pd.DataFrame:
    rows = [
        decision_row(0, "a", score=0.5, images=2, cost=3.0, user="u"),
        decision_row(1, "b"),
        decision_row(2, None, score=0.5),
        decision_row(3, "d", score=0.5, propensities=[]),
        decision_row(4, "e", score=0.5, **{"lambda": None}),
        decision_row(5, "f", score=0.5, served="mini-2"),
        decision_row(6, "g", score=0.5, images=0),
    ]
    save_decisions(tmp_path, rows)
    return read_decisions(tmp_path)


def test_scored_decisions_of_the_log_are_used_and_the_others_are_counted(
    decisions: pd.DataFrame,
) -> None:
    result = logged_outcomes(decisions, "clip_score")
    assert result.table.columns.tolist() == OUTCOMES.names
    (row,) = result.table.to_dict("records")
    assert (row["prompt"], row["cost"], row["metric"], row["user"]) == ("a", 1.5, "clip_score", "u")
    assert row["propensities"] == {"mini-1": 0.8, "mini-2": 0.1, "mini-4": 0.1}
    assert result.left_out == {
        outcomes.NO_PROMPT: 1,
        outcomes.NO_CHOICE: 2,
        outcomes.OTHER_CANDIDATE: 2,
    }


def test_audits_of_the_selected_candidate_replace_the_score(decisions: pd.DataFrame) -> None:
    audits = pd.DataFrame(
        [
            ("request 0", "mini-1", "clip_score", 0.2),
            ("request 0", "mini-1", "clip_score", 0.4),
            ("request 0", "mini-2", "clip_score", 0.9),
            ("request 1", "mini-1", "clip_score", 0.7),
            ("request 1", "mini-1", "sharpness", 5.0),
            ("unknown", "mini-1", "clip_score", 0.7),
        ],
        columns=["request_id", "candidate", "metric", "score"],
    )
    table = logged_outcomes(decisions, "clip_score", audits).table
    assert table["prompt"].tolist() == ["a", "b"]
    assert table["score"].tolist() == pytest.approx([0.3, 0.7])
    without_metric = audits.drop(columns="metric")
    assert len(logged_outcomes(decisions, "clip_score", without_metric).table) == 2
    later = audits.assign(time=pd.Timestamp(NOON + timedelta(minutes=1)))
    table = logged_outcomes(decisions, "clip_score", later).table
    assert table["score"].tolist() == [0.5, 0.7], "another request with the same id"
    with pytest.raises(InputError, match="audits: the columns candidate are missing"):
        logged_outcomes(decisions, "clip_score", audits.drop(columns="candidate"))


def test_a_log_without_scores_has_no_outcomes(tmp_path: Path) -> None:
    save_decisions(tmp_path, [decision_row(0, "a")])
    result = logged_outcomes(read_decisions(tmp_path), "clip_score")
    assert len(result.table) == 0 and result.left_out == {}
    assert len(logged_outcomes(read_decisions(tmp_path / "none"), "clip_score").table) == 0


def test_outcomes_are_merged_by_request_and_old_ones_are_removed(decisions: pd.DataFrame) -> None:
    scored = decisions.assign(score=0.5)
    earlier = logged_outcomes(scored.iloc[:2], "m").table
    new = logged_outcomes(scored.iloc[1:2].assign(score=0.25), "m").table
    merged = merged_outcomes(earlier, new, pd.Timestamp(NOON))
    assert merged["score"].tolist() == [0.5, 0.25]
    later = merged_outcomes(earlier, new, pd.Timestamp(NOON + timedelta(minutes=1)))
    assert later["prompt"].tolist() == ["b"]
    assert merged_outcomes(earlier, new.iloc[:0], pd.Timestamp(NOON)).equals(earlier)
    assert len(merged_outcomes(new.iloc[:0], new.iloc[:0], pd.Timestamp(NOON))) == 0

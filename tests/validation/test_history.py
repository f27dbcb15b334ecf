"""Scores compared with the labels of the champion: closed forms and properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.errors import InputError
from catimage.validation.failures import describe
from catimage.validation.history import MIN_PROMPTS, history_frame, label_table, read_labels
from catimage.validation.runner import run
from catimage.validation.suites import suites

CANDIDATES = ("cheap", "expensive")
PARAMETERS = {"max_shift": 0.25, "max_decline": 1.0}


def scores_of(prompts: range, quality: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Return scores of two image seeds, whose mean is ``quality`` plus an effect of the prompt."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in prompts:
        effect = rng.standard_normal()
        for name, value in zip(CANDIDATES, quality + 0.1 * rng.standard_normal(2), strict=True):
            for image_seed, noise in ((0, -0.5), (1, 0.5)):
                score = effect + value + noise
                rows.append((f"p{i}", name, image_seed, "clip_score", "1", score))
    columns = ["prompt_id", "candidate", "seed", "metric", "version", "value"]
    return pd.DataFrame(rows, columns=columns)


OLD = scores_of(range(200), np.array([0.0, 1.0]))
REFERENCE = label_table(OLD)


def by_candidate(scores: pd.DataFrame, **directions: bool) -> pd.DataFrame:
    return history_frame(scores, REFERENCE, directions).set_index("candidate")


def test_equal_data_have_neither_shift_nor_decline() -> None:
    frame = by_candidate(OLD)
    assert frame[["shift", "decline"]].to_numpy().tolist() == [[0.0, 0.0], [0.0, 0.0]]


@settings(max_examples=15, deadline=None)
@given(st.floats(-2, 2))
def test_the_shift_is_the_mean_change_of_the_same_prompts(change: float) -> None:
    moved = OLD.assign(value=OLD["value"] + change * (OLD["candidate"] == "expensive"))
    scale = REFERENCE["value"].std(ddof=0)
    frame = by_candidate(moved)
    assert frame.loc["expensive", "shift"] == pytest.approx(abs(change) / scale)
    assert frame.loc["cheap", "shift"] == pytest.approx(0.0)


@settings(max_examples=15, deadline=None)
@given(st.floats(-20, 20))
def test_more_difficult_prompts_are_no_decline(difficulty: float) -> None:
    new = scores_of(range(200, 300), np.array([0.0, 1.0]) + difficulty, seed=1)
    frame = by_candidate(pd.concat([OLD, new]))
    assert frame["decline"].max() < 0.05 and frame["shift"].max() == 0


def test_a_candidate_that_got_worse_on_new_prompts_declines() -> None:
    """The advantage of the candidate over the mean falls from 0.5 to -1.5."""
    new = scores_of(range(200, 300), np.array([0.0, -3.0]), seed=1)
    frame = by_candidate(pd.concat([OLD, new]))
    scale = REFERENCE["value"].std(ddof=0)
    assert frame.loc["expensive", "decline"] == pytest.approx(2.0 / scale, rel=0.05)
    assert frame.loc["cheap", "decline"] == 0
    reversed_frame = by_candidate(pd.concat([OLD, new]), clip_score=False)
    assert reversed_frame.loc["expensive", "decline"] == 0
    assert reversed_frame.loc["cheap", "decline"] == pytest.approx(2.0 / scale, rel=0.05)


def test_the_suite_stops_the_run_with_one_sentence(tmp_path: Path) -> None:
    new = scores_of(range(200, 300), np.array([0.0, -3.0]), seed=1)
    frames = {"history": history_frame(pd.concat([OLD, new]), REFERENCE, {})}
    suite = {"history": suites("imported")["history"]}
    (failed,) = run(suite, frames, PARAMETERS, tmp_path).failures
    problem = describe(failed, "imported", 0.1)
    assert "candidates are worse on new prompts" in problem.problem
    assert "metric=clip_score, candidate=expensive" in problem.problem
    assert "raise validate.max_decline" in problem.fix


@pytest.mark.parametrize("column", ["version", "metric", "candidate"])
def test_what_only_one_table_has_is_not_compared(column: str) -> None:
    other = OLD.assign(**{column: OLD[column] + "-new"})
    assert by_candidate(other).empty


def test_few_prompts_are_not_compared() -> None:
    kept = {f"p{i}" for i in range(MIN_PROMPTS - 1)}
    few = OLD[OLD["prompt_id"].isin(kept)].assign(value=9.0)
    new = scores_of(range(200, 200 + MIN_PROMPTS - 1), np.array([0.0, -9.0]))
    assert by_candidate(few)["shift"].max() == 0
    assert by_candidate(pd.concat([OLD, new]))["decline"].max() == 0


def test_without_a_champion_nothing_is_compared(tmp_path: Path) -> None:
    assert read_labels(tmp_path / "none.parquet") is None
    assert history_frame(OLD, None, {}).empty
    path = tmp_path / "labels.parquet"
    REFERENCE.to_parquet(path)
    pd.testing.assert_frame_equal(read_labels(path), REFERENCE)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"labels\.parquet"):
        read_labels(path)

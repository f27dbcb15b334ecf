import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.prompts.identity import folded, normalise, prompt_id, split_of, splits_of
from catimage.data.schema import (
    CANDIDATES,
    costs_of,
    labels_of,
    read_table,
    scores_array,
    write_table,
)
from catimage.errors import InputError

ROW = {"candidate": "a", "generator": "g", "steps": 4, "cost": 1.5, "unit": "tflops"}


def test_a_table_comes_back_as_it_was(tmp_path):
    write_table(pd.DataFrame([ROW]), tmp_path / "t.parquet", CANDIDATES)
    assert read_table(tmp_path / "t.parquet", CANDIDATES, "generate").to_dict("records") == [ROW]


def test_other_columns_or_types_are_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "t.parquet"
    for frame in (
        pd.DataFrame([{**ROW, "more": 1}]),
        pd.DataFrame([{"candidate": "a"}]),
        pd.DataFrame([{**ROW, "cost": "dear"}]),
    ):
        with pytest.raises(InputError):
            write_table(frame, path, CANDIDATES)
    assert not any(tmp_path.iterdir())


def test_missing_and_damaged_files_name_the_stage(tmp_path):
    with pytest.raises(InputError, match="run 'catimage generate' first"):
        read_table(tmp_path / "none.parquet", CANDIDATES, "generate")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="again"):
        read_table(tmp_path / "bad.parquet", CANDIDATES, "generate")


@given(st.text(min_size=1).filter(lambda t: t.strip()))
def test_the_id_sees_through_white_space(text):
    assert prompt_id(text) == prompt_id(f"  {text}\n") == prompt_id(normalise(text))


def test_splits_are_80_10_10_and_depend_on_the_prompt_alone():
    sides = pd.Series([split_of(prompt_id(f"prompt {i}")) for i in range(20_000)]).value_counts(
        normalize=True
    )
    assert sides.to_dict() == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1}, abs=0.01)
    assert split_of("abc") == split_of("abc")


def test_spellings_of_one_prompt_are_in_one_split_and_others_stay_where_their_own_hash_puts_them():
    texts = [f"a cat number {i}" for i in range(300)]
    alone = [split_of(prompt_id(text)) for text in texts]
    assert splits_of(texts) == alone
    several = splits_of([*texts, *(f"A Cat, number {i}!" for i in range(0, 300, 2))])
    assert several[:300:2] == several[300:], "every other one has a twin"
    assert several[1:300:2] == alone[1::2]
    assert len(set(several[300:])) == 3


@given(st.text(min_size=1).filter(lambda t: t.strip()))
def test_the_folded_form_sees_through_white_space_case_and_punctuation(text):
    assert folded(text) == folded(f" {text}\n")
    assert folded(f"a {text}") == folded(f"A, {text}!") and folded(text).strip()


def test_signs_that_say_something_are_kept():
    assert folded("A cat, 3/4 view!") == folded("a cat 3 4 View")
    assert (
        folded("🦊 🎭") != folded("🦊")
        and folded("c+") != folded("c")
        and folded("...") != folded("?!")
    )


def scores(rows):
    return pd.DataFrame(rows, columns=["prompt_id", "candidate", "seed", "metric", "value"]).assign(
        version="1"
    )


def test_labels_are_the_mean_over_the_seeds_present():
    table = scores(
        [
            ("p", "a", 0, "q", 1.0),
            ("p", "a", 5, "q", 3.0),
            ("p", "b", 0, "q", 4.0),
            ("p", "b", 0, "other", 9.0),
        ]
    )
    by_seed = scores_array(table, "q", ["p"], ["b", "a"])
    assert by_seed.shape == (1, 2, 2) and np.isnan(by_seed[0, 0, 1])
    assert labels_of(by_seed).tolist() == [[4.0, 2.0]] and labels_of(
        by_seed, lower_is_better=True
    ).tolist() == [[-4.0, -2.0]]


def test_a_missing_candidate_or_metric_is_said():
    table = scores([("p", "a", 0, "q", 1.0)])
    with pytest.raises(InputError, match="1 prompts lack"):
        labels_of(scores_array(table, "q", ["p"], ["a", "b"]))
    with pytest.raises(InputError, match=r"no score of the metric 'z'.*\['q'\]"):
        scores_array(table, "z", ["p"], ["a"])
    np.testing.assert_array_equal(
        labels_of(scores_array(table, "q", ["p"], ["a", "b"]), whole=False), [[1.0, np.nan]]
    )


def test_costs_come_cheapest_first_in_one_unit():
    frame = pd.DataFrame(
        [
            {**ROW, "candidate": c, "cost": v, "unit": u}
            for c, v, u in [("b", 2, "usd"), ("a", 1, "usd"), ("a", 9, "wh")]
        ]
    )
    names, costs = costs_of(frame, "usd")
    assert names == ["a", "b"] and costs.tolist() == [1, 2]
    with pytest.raises(InputError, match=r"\['usd', 'wh'\]"):
        costs_of(frame, "tflops")

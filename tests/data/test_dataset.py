import numpy as np
import pandas as pd
import pytest

from catimage.data.dataset import Candidates, Dataset
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.errors import InputError
from catimage.workspace import Workspace

COSTS = [("b", 2.0, "usd"), ("a", 1.0, "usd"), ("a", 9.0, "wh")]


def scores_table(rows):
    return pd.DataFrame(rows, columns=["prompt_id", "candidate", "seed", "metric", "value"]).assign(
        version="1"
    )


def candidates_table():
    return pd.DataFrame(
        [(name, f"g-{name}", int(cost), cost, unit) for name, cost, unit in COSTS],
        columns=CANDIDATES.names,
    )


def prompts_table():
    splits = ["train", "val", "train", "test"]
    return pd.DataFrame(
        [(f"p{i}", f"text {i}", "file", split) for i, split in enumerate(splits)],
        columns=PROMPTS.names,
    )


def dataset(**settings):
    rows = [(f"p{i}", name, 0, "q", 10.0 * i + j) for i in range(4) for j, name in enumerate("ab")]
    rows += [("p0", "a", 1, "error", 3.0), ("p2", "a", 1, "error", 5.0)]
    return Dataset(
        prompts_table(),
        scores_table(rows),
        Candidates.from_table(candidates_table(), "usd"),
        **settings,
    )


def test_candidates_are_in_ascending_order_of_cost_in_one_unit():
    candidates = Candidates.from_table(candidates_table(), "usd")
    assert candidates.names == ["a", "b"] and candidates.costs.tolist() == [1, 2]
    assert candidates.generators == ("g-a", "g-b") and candidates.steps == (1, 2)
    assert candidates.unit == "usd" and len(candidates) == 2
    with pytest.raises(InputError, match=r"candidates\.parquet: no cost .*to one of usd, wh\."):
        Candidates.from_table(candidates_table(), "tflops")


def test_candidates_of_equal_cost_are_in_the_order_of_their_names():
    table = candidates_table().assign(cost=1.0).sort_values("candidate", ascending=False)
    assert Candidates.from_table(table, "usd").names == ["a", "b"]


def test_a_missing_label_is_refused_unless_labels_may_be_incomplete():
    with pytest.raises(InputError, match="4 prompts lack a score for at least one candidate"):
        dataset().labels("error")
    labels = dataset(complete=False).labels("error")
    np.testing.assert_array_equal(labels[:, 0], [3, np.nan, 5, np.nan])
    with pytest.raises(InputError, match=r"no score of the metric 'z'.*table: error, q\."):
        dataset().labels("z")


def test_labels_of_a_lower_is_better_metric_are_negated():
    table = scores_table([("p0", "a", 0, "q", 4.0), ("p0", "b", 0, "q", 2.0)])
    candidates = Candidates.from_table(candidates_table(), "usd")
    prompts = prompts_table().iloc[:1]
    negated = Dataset(prompts, table, candidates, lower_is_better={"q"})
    assert negated.labels("q").tolist() == [[-4.0, -2.0]]
    assert negated.score_rows("q").by_seed().tolist() == [[[-4.0], [-2.0]]]
    assert Dataset(prompts, table, candidates).labels("q").tolist() == [[4.0, 2.0]]


def test_split_selects_prompts_and_keeps_their_order():
    train = dataset().split("train")
    assert train.ids == ["p0", "p2"] and train.texts.tolist() == ["text 0", "text 2"]
    assert train.labels("q").tolist() == [[0, 1], [20, 21]] and len(train) == 2
    assert dataset().split("val", "test").ids == ["p1", "p3"]
    with pytest.raises(
        InputError, match=r"data/prompts\.parquet: no prompt is in the split holdout\. Add"
    ):
        dataset().split("holdout")


def test_take_and_scored_by_select_prompts():
    assert dataset().take(np.array([3, 0])).labels("q").tolist() == [[30, 31], [0, 1]]
    scored = dataset(complete=False).scored_by("error")
    assert scored.ids == ["p0", "p2"] and scored.metrics == ["error", "q"]
    np.testing.assert_array_equal(scored.labels("error"), [[3, np.nan], [5, np.nan]])


def test_with_candidates_changes_the_columns_of_labels():
    reordered = dataset().with_candidates(Candidates(["b", "a"], np.array([1.0, 2.0]), "usd"))
    assert reordered.labels("q")[1].tolist() == [11.0, 10.0]


def test_a_dataset_is_read_from_a_workspace(tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(InputError, match="catimage sample"):
        Dataset.read(workspace, "usd")
    expected = dataset(lower_is_better=frozenset({"error"}), complete=False)
    write_table(expected.prompts, workspace.prompts, PROMPTS)
    write_table(candidates_table(), workspace.candidates, CANDIDATES)
    write_table(expected.scores, workspace.scores, SCORES)
    data = Dataset.read(workspace, "usd", frozenset({"error"}), complete=False)
    assert data.candidates.names == expected.candidates.names
    np.testing.assert_array_equal(data.labels("error"), expected.labels("error"))
    assert data.labels("error")[0, 0] == -3.0

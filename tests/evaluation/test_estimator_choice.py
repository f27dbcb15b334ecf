import numpy as np
import pandas as pd
import pytest

from catimage.errors import InputError
from catimage.evaluation.estimator_choice import compare_estimators, read_all_out_of_fold
from catimage.routing.curve import deferral_curve

COST = np.array([1.0, 2.0, 4.0])


def labels_and_predictions(n=400):
    """Return labels (n, 3), and the predictions of an accurate and of a constant estimator."""
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(n, 1)) * np.log(COST) + 0.1 * rng.normal(size=(n, 3))
    return labels, {
        "accurate": labels + 0.05 * rng.normal(size=labels.shape),
        "constant": np.tile(labels.mean(axis=0), (n, 1)),
    }


def test_the_estimator_with_the_best_curve_is_first():
    labels, predictions = labels_and_predictions()
    comparison = compare_estimators(predictions, labels, COST, cross_validated=True)
    assert comparison.best == "accurate"
    assert [row.estimator for row in comparison.rows] == ["accurate", "constant"]
    quality = deferral_curve(predictions["accurate"], COST, labels).mean_quality(1, 4)
    first, second = comparison.rows
    assert first.mean_curve_quality == pytest.approx(quality)
    assert first.behind == 0 == first.behind_se
    assert second.behind == pytest.approx(quality - second.mean_curve_quality)
    assert second.behind > 4 * second.behind_se > 0
    summary = comparison.summary("clip_score")
    assert summary.startswith("accurate of 2: cross-validated mean curve quality ")
    assert summary.endswith(" above constant")
    assert comparison.document()["on"] == "train"
    assert comparison.document()["estimators"][1]["estimator"] == "constant"


def test_with_one_candidate_the_standard_error_is_that_of_a_mean():
    labels = np.random.default_rng(1).normal(size=(400, 1))
    comparison = compare_estimators({"one": labels}, labels, np.array([2.0]), cross_validated=False)
    (row,) = comparison.rows
    assert row.mean_curve_quality == pytest.approx(labels.mean())
    assert row.se == pytest.approx(labels.std() / 20, rel=0.35)


def test_prompts_without_all_labels_are_ignored():
    labels, predictions = labels_and_predictions()
    incomplete = labels.copy()
    incomplete[::2, 1] = np.nan
    complete = {name: p[1::2] for name, p in predictions.items()}
    assert (
        compare_estimators(predictions, incomplete, COST, True).rows
        == compare_estimators(complete, labels[1::2], COST, True).rows
    )
    with pytest.raises(InputError, match=r"there is none\. Name an estimator"):
        compare_estimators(predictions, np.where(np.arange(3) == 1, np.nan, labels), COST, True)
    assert compare_estimators({"a": labels[:1]}, labels[:1], COST, True).rows[0].se is None


def test_out_of_fold_predictions_are_read_by_prompt_and_checked(tmp_path):
    frame = pd.DataFrame({"prompt_id": ["b", "a"], "x": [1.0, 2.0], "y": [3.0, 4.0]})
    (tmp_path / "knn").mkdir()
    frame.to_parquet(tmp_path / "knn" / "out_of_fold.parquet", index=False)
    assert read_all_out_of_fold(tmp_path, ["knn"], ["a", "b"], ["y", "x"])["knn"].tolist() == [
        [4, 2],
        [3, 1],
    ]
    assert read_all_out_of_fold(tmp_path, ["knn", "ridge"], ["a", "b"], ["x", "y"]) is None
    for ids, names in ((["a", "c"], ["x", "y"]), (["a"], ["x", "y"]), (["a", "b"], ["x", "z"])):
        with pytest.raises(InputError, match="the prompts or candidates differ"):
            read_all_out_of_fold(tmp_path, ["knn"], ids, names)

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from catimage.data.dataset import Candidates, Dataset
from catimage.data.schema import PROMPTS, SCORES
from catimage.errors import InputError
from catimage.evaluation.test_data import labelled_predictions, router_candidates
from catimage.router import Router

CANDIDATES = Candidates(["a", "b"], np.array([1.0, 2.0]), "seconds", ("g", "h"), (4, 8))
SPLITS = ["train", "train", "val", "val", "test", "test"]


class LengthEstimator(Pipeline):
    """An estimator that predicts the length of the prompt for both candidates."""

    def __init__(self):
        pass

    def predict(self, prompts):
        return np.array([[len(prompt)] * 2 for prompt in prompts])


def dataset(missing=(), complete=False, **settings):
    """Return a dataset of six prompts with two seeds.

    Args:
        missing: pairs of a prompt's number and a candidate without scores.
        complete: whether missing labels are an error.
        **settings: further arguments of ``Dataset``.
    """
    prompts = [(f"id {i}", "x" * (i + 1), "made up", split) for i, split in enumerate(SPLITS)]
    rows = [
        (f"id {i}", name, seed, "q", "1", 10 * i + m + 0.5 * seed)
        for i in range(6)
        for m, name in enumerate("ab")
        for seed in (0, 1)
        if (i, name) not in missing
    ]
    frames = (
        pd.DataFrame(prompts, columns=PROMPTS.names),
        pd.DataFrame(rows, columns=SCORES.names),
    )
    return Dataset(*frames, CANDIDATES, complete=complete, **settings)


def predictions_of(data):
    return labelled_predictions("q", data, data.split("test"), [("length", LengthEstimator())])


def test_labels_are_means_over_seeds_and_prompts_are_predicted():
    data = predictions_of(dataset())
    assert data.train.tolist() == [[0.25, 1.25], [10.25, 11.25]]
    assert data.validation.tolist() == [[20.25, 21.25], [30.25, 31.25]]
    assert data.test.tolist() == [[40.25, 41.25], [50.25, 51.25]]
    assert data.test_by_seed.shape == (2, 2, 2)
    on_val, on_test = data.predictions["length"]
    assert (on_val.tolist(), on_test.tolist()) == ([[3, 3], [4, 4]], [[5, 5], [6, 6]])
    assert data.left_out == {"validation": 0, "test": 0}


def test_prompts_with_a_missing_label_are_left_out_except_in_training():
    data = predictions_of(dataset(missing={(0, "b"), (3, "a"), (4, "b")}))
    assert np.isnan(data.train).sum() == 1
    assert data.validation_prompts["prompt_id"].tolist() == ["id 2"]
    assert data.test_prompts["prompt_id"].tolist() == ["id 5"]
    assert data.predictions["length"][1].tolist() == [[6, 6]]
    assert data.left_out == {"validation": 1, "test": 1}


def test_a_lower_is_better_metric_is_negated():
    data = predictions_of(dataset(lower_is_better={"q"}))
    assert data.lower_is_better
    assert data.test.tolist() == [[-40.25, -41.25], [-50.25, -51.25]]
    assert data.test_by_seed[0, 0].tolist() == [-40, -40.5]


def test_a_split_without_a_complete_prompt_is_refused():
    with pytest.raises(InputError, match="no prompt of the test split has a q score for every"):
        predictions_of(dataset(missing={(4, "a"), (5, "b")}))


def test_the_candidates_of_a_router_have_the_generators_and_steps_of_the_table():
    router = Router(
        None, "e", "q", "seconds", "p", ["b", "new"], np.array([3.0, 5.0]), 4.0, None, None
    )
    candidates = router_candidates(router, CANDIDATES)
    assert candidates.names == ["b", "new"]
    assert candidates.costs.tolist() == [3, 5]
    assert candidates.generators == ("h", "new")
    assert candidates.steps == (8, 0)

"""The public function ``evaluate``, without a workspace."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from catimage.data.dataset import Candidates, Dataset
from catimage.data.schema import PROMPTS, SCORES
from catimage.errors import InputError
from catimage.evaluation.evaluate import evaluate
from catimage.params import EvaluateParams
from catimage.router import Router
from catimage.routing.curve import DeferralCurve
from catimage.routing.randomized import RoutingRule
from tests.evaluation.synthetic import COST, NAMES, noisy_labels

SPLITS = ["train"] * 200 + ["val"] * 100 + ["test"] * 100


class TrueQualities(Pipeline):
    """An estimator that predicts the true qualities of the prompts ``prompt 0``, ``prompt 1``..."""

    def __init__(self, truth):
        self.truth = truth

    def predict(self, prompts):
        return self.truth[[int(prompt.split()[1]) for prompt in prompts]]


@pytest.fixture(scope="module")
def labels():
    return noisy_labels(400, 0)


@pytest.fixture(scope="module")
def dataset(labels):
    rows = [
        (f"id {i}", name, 0, "quality", "1", value)
        for i, row in enumerate(labels[1])
        for name, value in zip(NAMES, row, strict=True)
    ]
    prompts = [(f"id {i}", f"prompt {i}", "made up", split) for i, split in enumerate(SPLITS)]
    candidates = Candidates(NAMES, COST, "seconds", ("a", "a", "b"), (1, 6, 10))
    return Dataset(
        pd.DataFrame(prompts, columns=PROMPTS.names),
        pd.DataFrame(rows, columns=SCORES.names),
        candidates,
    )


@pytest.fixture(scope="module")
def router(labels):
    curve = DeferralCurve(np.zeros(1), np.full(1, 5.5), np.full(1, 0.66))
    rule = RoutingRule.from_parts((1.0, 0.01))
    return Router(
        TrueQualities(labels[0]), "true", "quality", "seconds", "p", NAMES, COST, 6.0, rule, curve
    )


def test_the_document_is_the_core_of_metrics_json(router, dataset, labels):
    document = evaluate(router, dataset, EvaluateParams(bootstrap=200))
    assert document["n_test"] == 100
    assert set(document["methods"]) == {"fixed", "mix", "oracle", "true"}
    assert document["budget"]["realised_mean_cost"] == pytest.approx(5.5)
    # Odd prompts are best served by the cheap candidate, even ones by the expensive one.
    expected = labels[1][300:][np.arange(100), [2, 0] * 50]
    assert document["budget"]["realised_quality"] == pytest.approx(expected.mean())
    assert document["best_single"]["candidate"] == "expensive"
    assert list(document["by_metric"]) == ["quality"]


def test_settings_have_the_defaults_of_params_yaml(router, dataset):
    assert evaluate(router, dataset) == evaluate(router, dataset, EvaluateParams())


def test_candidates_are_matched_by_name_and_further_ones_are_ignored(router, dataset):
    names = [*NAMES[::-1], "new"]
    reordered = Candidates(names, np.append(COST[::-1], 2.0), "seconds", ("a",) * 4, (1,) * 4)
    settings = EvaluateParams(bootstrap=100)
    expected = evaluate(router, dataset, settings)
    assert evaluate(router, dataset.with_candidates(reordered), settings) == expected


def test_a_dataset_without_a_candidate_of_the_router_is_refused(router, dataset):
    fewer = Candidates(NAMES[:2], COST[:2], "seconds", ("a", "a"), (1, 6))
    with pytest.raises(InputError, match="the router's candidates expensive are missing"):
        evaluate(router, dataset.with_candidates(fewer))


def test_an_empty_test_split_is_refused(router, dataset):
    with pytest.raises(InputError, match="no prompt is in the split test"):
        evaluate(router, dataset.split("train", "val"))

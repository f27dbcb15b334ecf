import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from catimage.data.dataset import Candidates, Dataset
from catimage.data.schema import PROMPTS, SCORES
from catimage.evaluation.operating_point import operating_point, rule_at
from catimage.router import Router
from catimage.routing.curve import DeferralCurve
from catimage.routing.draws import request_draws
from catimage.routing.randomized import RoutingRule

TEXTS = ["a red circle", "two blue squares"]
PREDICTED = np.array([[0.25, 0.625], [0.5, 0.375]])


class ConstantTable(Pipeline):
    """An estimator that predicts the same table for any two prompts."""

    def __init__(self, table):
        self.table = table

    def predict(self, prompts):
        return self.table


@pytest.fixture
def router():
    curve = DeferralCurve(np.array([0.0, 0.2]), np.array([1.5, 1.0]), np.array([0.55, 0.35]))
    rule = RoutingRule(np.ones(1), np.array([0.1]), np.array([[0.5]]))
    candidates, costs = ["a", "b"], np.array([1.0, 2.0])
    return Router(
        ConstantTable(PREDICTED),
        "table",
        "quality",
        "seconds",
        "pool",
        candidates,
        costs,
        1.5,
        rule,
        curve,
        floors={"sharpness": 0.3},
        floor_estimators={"sharpness": ConstantTable(PREDICTED / 2)},
    )


def dataset(rows):
    """Return a dataset of two test prompts with the given rows of the scores table."""
    prompts = [(f"id {i}", text, "made up", "test") for i, text in enumerate(TEXTS)]
    candidates = Candidates(["a", "b"], np.array([1.0, 2.0]), "seconds")
    frames = (
        pd.DataFrame(prompts, columns=PROMPTS.names),
        pd.DataFrame(rows, columns=SCORES.names),
    )
    return Dataset(*frames, candidates, lower_is_better={"sharpness"})


def test_the_operating_point_has_the_predictions_and_draws_of_the_router(router):
    point = operating_point(router, dataset([]), 5)
    assert point.predicted.tolist() == PREDICTED.tolist()
    assert point.scores.tolist() == [PREDICTED.tolist(), (PREDICTED / 2).tolist()]
    assert point.draws.tolist() == request_draws(TEXTS, 5, ["id 0", "id 1"]).tolist()
    assert (point.estimator, point.target, point.lam) == ("table", 1.5, 0.1)


def test_labels_of_floors_are_not_negated_and_missing_labels_are_nan(router):
    rows = [("id 0", "a", seed, "sharpness", "1", value) for seed, value in enumerate((0.2, 0.4))]
    (floor,) = operating_point(router, dataset(rows), 5).floors
    assert (floor.metric, floor.floor) == ("sharpness", 0.3)
    assert floor.labels[0, 0] == pytest.approx(0.3)
    assert np.isnan(floor.labels).sum() == 3
    (without_scores,) = operating_point(router, dataset([]), 5).floors
    assert np.isnan(without_scores.labels).all()


def test_a_router_with_floors_has_the_same_rule_at_every_budget(router):
    assert rule_at(router, 1.2) is router.rule

import numpy as np
import pytest

from catimage.evaluation.methods import MetricData, Pool, metrics_document
from catimage.evaluation.plots import figures
from catimage.evaluation.selection import selection_table
from tests.evaluation.worlds import COST, NAMES, operating, routed_world


@pytest.fixture(scope="session")
def world():
    (_, train), (val_truth, val), (test_truth, test) = (
        routed_world(n, seed) for seed, n in enumerate((200, 300, 300))
    )
    blind = np.tile(train.mean(axis=0), (300, 1))
    by_seed = np.stack([test, test_truth * 2 - test], axis=2)
    return MetricData(
        "quality",
        train,
        val,
        test,
        {"good": (val_truth, test_truth), "blind": (blind, blind)},
        by_seed,
    )


@pytest.fixture(scope="session")
def document(world):
    router = operating("good", 6.0, 0.01, world.predictions["good"][1])
    document = metrics_document(world, [], Pool(NAMES, COST, "seconds"), router, draws=400, seed=0)
    return document | {"decision_tflops": {"text_encoder": 3e-5, "estimator": 1e-6}}


@pytest.fixture(scope="session")
def blind_document(world):
    router = operating("blind", 10.0, 0.0, world.predictions["blind"][1])
    document = metrics_document(world, [], Pool(NAMES, COST, "seconds"), router, draws=400, seed=0)
    return document | {"decision_tflops": {"text_encoder": 3e-5, "estimator": 1e-6}}


@pytest.fixture(scope="session")
def drawn(document, world):
    predicted = world.predictions["good"][1]
    return figures(document, selection_table(predicted, COST, NAMES), predicted, world.test)

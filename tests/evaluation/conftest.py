import numpy as np
import pytest

from catimage.evaluation.plots import draw_figures
from catimage.evaluation.samples import PromptResults
from catimage.evaluation.selection import selection_table
from catimage.evaluation.test_data import LabelledPredictions
from tests.evaluation.synthetic import CANDIDATES, document_of, noisy_labels, operating_point

DECISION = {"decision_tflops": {"text_encoder": 3e-5, "estimator": 1e-6}}


@pytest.fixture(scope="session")
def data():
    """Labels and the predictions of two estimators.

    ``good`` predicts the true qualities, ``constant`` the mean label for every prompt.
    """
    (_, train), (val_truth, val), (test_truth, test) = (
        noisy_labels(n, seed) for seed, n in enumerate((200, 300, 300))
    )
    constant = np.tile(train.mean(axis=0), (300, 1))
    predictions = {"good": (val_truth, test_truth), "constant": (constant, constant)}
    by_seed = np.stack([test, test_truth * 2 - test], axis=2)
    return LabelledPredictions("quality", train, val, test, predictions, by_seed)


@pytest.fixture(scope="session")
def results(data):
    """The test prompts with the predictions of the estimator ``good``."""
    ids = [f"id {i}" for i in range(300)]
    texts = [f"prompt number {i}" for i in range(300)]
    return PromptResults(ids, texts, data.predictions["good"][1], data.test, CANDIDATES)


@pytest.fixture(scope="session")
def document(data):
    """The core of ``metrics.json`` for a router with the estimator ``good``."""
    point = operating_point("good", 6.0, 0.01, data.predictions["good"][1])
    return document_of([data], CANDIDATES, point, draws=400) | DECISION


@pytest.fixture(scope="session")
def constant_document(data):
    """The core of ``metrics.json`` for a router with the estimator ``constant``."""
    point = operating_point("constant", 10.0, 0.0, data.predictions["constant"][1])
    return document_of([data], CANDIDATES, point, draws=400) | DECISION


@pytest.fixture(scope="session")
def selection(results):
    return selection_table(results.predicted, CANDIDATES)


@pytest.fixture(scope="session")
def svg_by_name(document, selection, results):
    return draw_figures(document, selection, results)

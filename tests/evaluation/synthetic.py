"""Synthetic labels with a known best policy, and random routing problems."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from catimage.data.dataset import Candidates
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import metrics_document
from catimage.evaluation.operating_point import OperatingPoint
from catimage.routing.randomized import RoutingRule

COST = np.array([1.0, 6.0, 10.0])
NAMES = ["cheap", "middle", "expensive"]
CANDIDATES = Candidates(NAMES, COST, "seconds")


def noisy_labels(n, seed, noise=0.02):
    """Return true qualities and noisy labels, (n, 3) each.

    For half of the prompts, the expensive candidate is slightly worse than the cheap one; for the
    other half, it is much better. The middle candidate has the
    highest quality minus lambda times cost at no lambda.
    """
    rng = np.random.default_rng(seed)
    truth = np.where((np.arange(n) % 2)[:, None], [0.62, 0.60, 0.60], [0.30, 0.45, 0.70])
    return truth, truth + rng.normal(0, noise, truth.shape)


def operating_point(estimator, target, lam, predicted):
    """Return the operating point of a router whose rule has a single lambda."""
    rule = RoutingRule.from_parts((1.0, lam))
    return OperatingPoint(estimator, target, rule, predicted, predicted, np.zeros(len(predicted)))


def document_of(metrics, candidates, point, draws=100):
    """Return the core of ``metrics.json``."""
    return metrics_document(
        metrics, candidates, point, PairedBootstrap(len(metrics[0].test), draws, 0)
    )


@st.composite
def problems(draw):
    """Draw predictions (n, m), labels (n, m) and costs (m,) of a routing problem."""
    n, m = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    values = npst.arrays(float, (n, m), elements=st.integers(-20, 20).map(lambda v: v / 7))
    cost = draw(npst.arrays(float, (m,), elements=st.integers(1, 9).map(float)))
    return draw(values), draw(values), cost

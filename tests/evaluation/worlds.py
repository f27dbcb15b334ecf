"""Problems of routing for the tests of this folder."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from catimage.evaluation.budget import Operating
from catimage.routing.randomized import Rule

COST = np.array([1.0, 6.0, 10.0])
NAMES = ["cheap", "middle", "dear"]


def routed_world(n, seed, noise=0.02):
    """Half of the prompts lose a little by the dear candidate, half gain much; the middle one is
    never worth its cost.
    """
    rng = np.random.default_rng(seed)
    truth = np.where((np.arange(n) % 2)[:, None], [0.62, 0.60, 0.60], [0.30, 0.45, 0.70])
    return truth, truth + rng.normal(0, noise, truth.shape)


def operating(estimator, target, lam, predicted):
    """A calibrated router of one lambda."""
    return Operating(
        estimator, target, Rule.of((1.0, lam)), predicted, predicted, np.zeros(len(predicted))
    )


@st.composite
def problems(draw):
    n, m = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    values = npst.arrays(float, (n, m), elements=st.integers(-20, 20).map(lambda v: v / 7))
    cost = draw(npst.arrays(float, (m,), elements=st.integers(1, 9).map(float)))
    return draw(values), draw(values), cost

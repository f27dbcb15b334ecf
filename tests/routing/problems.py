"""Random routing problems for the tests of this folder."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.optimize import linprog


@st.composite
def problems(draw, metrics=1):
    """Scores (metrics, n, m) and costs (m,), with many ties."""
    n, m = draw(st.integers(1, 10)), draw(st.integers(1, 5))
    scores = draw(
        npst.arrays(float, (metrics, n, m), elements=st.integers(-20, 20).map(lambda v: v / 7))
    )
    return scores, draw(npst.arrays(float, (m,), elements=st.integers(0, 9).map(float)))


def relaxed_optimum(scores, cost, budget, floors=()):
    """The whole linear program in one call of scipy: the best mean of the first metric, or None if
    it is infeasible.
    """
    n, m = scores.shape[1:]
    result = linprog(
        -scores[0].ravel() / n,
        A_ub=np.stack([np.tile(cost, n) / n, *(-s.ravel() / n for s in scores[1:])]),
        b_ub=[budget, *(-f for f in floors)],
        A_eq=np.kron(np.eye(n), np.ones(m)),
        b_eq=np.ones(n),
        bounds=(0, None),
    )
    return -result.fun if result.status == 0 else None


def means(rule, scores, cost):
    """The expected mean cost of a rule, and the mean of every metric (metrics,)."""
    chosen_by_part = rule.choose_by_part(scores if rule.multipliers.shape[1] else scores[0], cost)
    return rule.expected(chosen_by_part, cost).mean(), np.array(
        [rule.expected(chosen_by_part, s).mean() for s in scores]
    )

"""Random routing problems, and reference solutions by scipy, for the tests of this folder."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.optimize import linprog


@st.composite
def problems(draw, metrics=1):
    """Draw predictions, (metrics, n_prompts, n_candidates), and costs, with many ties."""
    n, m = draw(st.integers(1, 10)), draw(st.integers(1, 5))
    predicted = draw(
        npst.arrays(float, (metrics, n, m), elements=st.integers(-20, 20).map(lambda v: v / 7))
    )
    return predicted, draw(npst.arrays(float, (m,), elements=st.integers(0, 9).map(float)))


def relaxed_optimum(predicted, cost, budget, floors=()):
    """Solve the relaxed routing problem as one linear program.

    Returns:
        The best mean of the first metric, or None if the problem is infeasible.
    """
    n, m = predicted.shape[1:]
    result = linprog(
        -predicted[0].ravel() / n,
        A_ub=np.stack([np.tile(cost, n) / n, *(-s.ravel() / n for s in predicted[1:])]),
        b_ub=[budget, *(-f for f in floors)],
        A_eq=np.kron(np.eye(n), np.ones(m)),
        b_eq=np.ones(n),
        bounds=(0, None),
    )
    return -result.fun if result.status == 0 else None


def means(rule, predicted, cost):
    """Return the expected mean cost of a rule, and the expected mean of each metric, (metrics,)."""
    chosen_by_part = rule.choose_by_part(
        predicted if rule.multipliers.shape[1] else predicted[0], cost
    )
    return rule.expected(chosen_by_part, cost).mean(), np.array(
        [rule.expected(chosen_by_part, values).mean() for values in predicted]
    )

"""Simulated logged decisions of a randomized policy, whose true values are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from catimage.evaluation.off_policy.estimators import LoggedTraffic

SHARES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
"""Propensities of the candidates for the two kinds of prompts, (2, 3)."""
TARGET = np.array([[0.1, 0.1, 0.8], [0.5, 0.5, 0.0]])
"""Probabilities of the target policy, (2, 3)."""
QUALITY = np.array([[0.2, 0.5, 0.9], [0.6, 0.7, 0.4]])
"""Mean outcome of each candidate, (2, 3)."""
TRUE_VALUE = float((TARGET * QUALITY).sum(axis=1).mean())
"""Mean outcome of the target policy if both kinds are equally frequent."""


@dataclass(frozen=True)
class Simulation:
    """Logged decisions, their outcomes (n,) and the predicted outcomes (n, 3)."""

    decisions: LoggedTraffic
    outcomes: np.ndarray
    predicted: np.ndarray


def simulate(n: int, seed: int, noise: float = 0.2, error: float = 0.0) -> Simulation:
    """Draw ``n`` decisions; the kinds of prompts alternate.

    Args:
        n: the number of decisions.
        seed: the seed.
        noise: standard deviation of an outcome.
        error: error of every prediction.
    """
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 2
    propensities, target, quality = SHARES[kind], TARGET[kind], QUALITY[kind]
    draws = rng.random((n, 1))
    actions = (draws > np.cumsum(propensities, axis=1)).sum(axis=1).clip(max=2)
    outcomes = quality[np.arange(n), actions] + noise * rng.standard_normal(n)
    return Simulation(LoggedTraffic(propensities, actions, target), outcomes, quality + error)


@st.composite
def logged_decisions(draw: st.DrawFn) -> Simulation:
    """Draw up to twelve decisions among up to four candidates, with positive propensities."""
    n, m = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    decisions = LoggedTraffic(
        rng.dirichlet(np.ones(m), n) * 0.9 + 0.1 / m,
        rng.integers(0, m, n),
        rng.dirichlet(np.full(m, 0.3), n),
    )
    return Simulation(decisions, rng.normal(size=n), rng.normal(size=(n, m)))

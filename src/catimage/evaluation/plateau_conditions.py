"""BudgetFusion's conditions on the test prompts (section 4): OURS, UNIFORM, REFERENCE, and what
else the same compute buys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.plateau_weights import neighbours


@dataclass(frozen=True)
class Baseline:
    """A candidate beside the series (DDIM, DeepCache, ...): ``quality`` (n_test, n_metrics), and
    ``seconds`` (n_test,) where known.
    """

    candidate: str
    cost: float
    quality: Floats
    seconds: Floats | None = None


@dataclass(frozen=True)
class StepData:
    """One generator by its number of steps, on the test prompts; every quality is higher-is-better
    and, as a rule, positive.

    Attributes:
        candidates: names (k,), by ascending ``steps`` (k,) and ``cost`` (k,) in ``unit``.
        metrics: names; of those in ``inverted`` the quality is this upper end less the value (Table
            2: "we inverted them").
        quality: labels (n_test, n_metrics, k).
        predicted: by estimator, likewise; NaN for a metric that it is not trained on.
        mean: labels' means on the training split, (n_metrics, k).
        reference: the place of the pool's reference condition.
        seconds: of an image as measured, (n_test, k), None where not known.
        baselines: other candidates, each the one of its kind that is nearest in cost to what is
            asked.
    """

    candidates: list[str]
    steps: Ints
    cost: Floats
    unit: str
    metrics: list[str]
    inverted: dict[str, float]
    quality: Floats
    predicted: dict[str, Floats]
    mean: Floats
    reference: int
    seconds: Floats | None = None
    baselines: list[Baseline] = field(default_factory=list)


@dataclass(frozen=True)
class Condition:
    """What a condition gives each test prompt, in expectation where it draws lots.

    Attributes:
        share: how likely each step is for a prompt, (n_test, k), or (n_test, 1) for a single
            candidate.
        cost: of those steps, (k,).
        quality: (n_test, n_metrics).
        steps: the expected number of steps, (n_test,); ``seconds`` likewise, None where not known.
        efficiency: equation 8 in expectation, (n_test, n_metrics).
    """

    share: Floats
    cost: Floats
    quality: Floats
    efficiency: Floats
    steps: Floats | None = None
    seconds: Floats | None = None

    @property
    def spent(self) -> Floats:
        """The expected cost of each prompt, (n_test,)."""
        spent: Floats = self.share @ self.cost
        return spent


def conditions(data: StepData, stops: Ints) -> dict[str, Condition]:
    """The conditions by name, given the step of each test prompt under OURS, (n_test,) indices.

    - ``ours``.
    - ``uniform``: one number of steps at the cost of OURS. The paper takes OURS' average step
    number, which a pool has seldom; here
      a prompt goes to the step of the pool below or above it, by lot, with shares that make the
      mean cost OURS' to the last unit.
    - ``uniform_step``: a single step as in the paper, the pool's nearest to OURS' average step
    number; it may cost more or less.
    - ``shuffled``: OURS' step numbers dealt to the prompts at random. What OURS has over it is owed
    to knowing the prompt alone; equation 8
      rewards unequal costs by themselves, since a mean of quotients is ruled by the cheap ones.
    - ``reference``: the pool's reference condition.
    """
    n, k = data.quality.shape[0], len(data.cost)
    ours = np.eye(k)[stops]
    left, share = neighbours(data.cost, float(data.cost[stops].mean()))
    mixed = np.zeros(k)
    mixed[left], mixed[min(left + 1, k - 1)] = 1 - share, share
    if k == 1:
        mixed[0] = 1.0
    nearest = int(np.abs(data.steps - data.steps[stops].mean()).argmin())
    shares = {
        "ours": ours,
        "uniform": mixed,
        "uniform_step": np.eye(k)[nearest],
        "shuffled": ours.mean(axis=0),
    }
    shares["reference"] = np.eye(k)[data.reference]
    return {name: _condition(data, np.broadcast_to(s, (n, k))) for name, s in shares.items()}


def _condition(data: StepData, share: Floats) -> Condition:
    quality = np.einsum("nmk,nk->nm", data.quality, share)
    efficiency = np.einsum("nmk,nk->nm", data.quality / data.cost, share)
    seconds = None if data.seconds is None else np.einsum("nk,nk->n", data.seconds, share)
    return Condition(
        share, data.cost, quality, efficiency, share @ data.steps.astype(float), seconds
    )


def of_baseline(baseline: Baseline) -> Condition:
    """A single candidate for all prompts."""
    cost = np.array([baseline.cost])
    return Condition(
        np.ones((len(baseline.quality), 1)),
        cost,
        baseline.quality,
        baseline.quality / cost,
        None,
        baseline.seconds,
    )

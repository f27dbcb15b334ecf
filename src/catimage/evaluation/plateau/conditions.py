"""BudgetFusion's conditions on the test prompts (section 4): OURS, UNIFORM, REFERENCE, and other
policies at the same compute.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.plateau_weights import neighbouring_steps


@dataclass(frozen=True)
class Baseline:
    """A candidate outside the step series (DDIM, DeepCache, ...).

    Attributes:
        candidate: its name.
        cost: of one image.
        quality: (n_test, n_metrics).
        seconds: per image, (n_test,); None if unknown.
    """

    candidate: str
    cost: float
    quality: Floats
    seconds: Floats | None = None


@dataclass(frozen=True)
class StepData:
    """The step series of one generator on the test prompts; every quality is higher-is-better.

    Attributes:
        candidates: names, (n_steps,).
        steps: ascending, (n_steps,).
        cost: ascending, (n_steps,), in ``unit``.
        unit: of the costs.
        metrics: names.
        inversion_constants: upper end of each lower-is-better metric; its quality is this end minus
            the value (Table 2: "we inverted them").
        quality: labels (n_test, n_metrics, n_steps), usually positive.
        predicted: by estimator, (n_test, n_metrics, n_steps); NaN for a metric that it is not
            trained on.
        mean: means of the training labels, (n_metrics, n_steps).
        reference: position of the pool's reference condition.
        seconds: measured seconds per image, (n_test, n_steps); None if unknown.
        baselines: of every other step group, the candidate nearest in cost to OURS.
    """

    candidates: list[str]
    steps: Ints
    cost: Floats
    unit: str
    metrics: list[str]
    inversion_constants: dict[str, float]
    quality: Floats
    predicted: dict[str, Floats]
    mean: Floats
    reference: int
    seconds: Floats | None = None
    baselines: list[Baseline] = field(default_factory=list)


@dataclass(frozen=True)
class Condition:
    """The expected outcome of a condition per test prompt.

    Attributes:
        share: probability of each step, (n_test, n_steps); (n_test, 1) for a single candidate.
        cost: of these steps, (n_steps,).
        quality: (n_test, n_metrics).
        efficiency: equation 8, (n_test, n_metrics).
        steps: number of steps, (n_test,); None for a single candidate.
        seconds: (n_test,); None if unknown.
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
    """Return the conditions by name.

    - ``ours``: each prompt's own number of steps.
    - ``uniform``: one number of steps for all prompts at the cost of OURS. The paper takes the
      average number of steps of OURS, which a pool rarely has. Here each prompt is assigned at
      random to the step of the pool below or above it, with shares that give exactly the mean cost
      of OURS.
    - ``uniform_step``: a single step as in the paper, the pool's nearest to the average of OURS; it
      may cost more or less.
    - ``shuffled``: the step numbers of OURS assigned to the prompts at random. The gain of OURS
      over it is due only to knowledge of the prompt. Equation 8 alone rewards unequal costs, since
      a mean of quotients is dominated by the cheap ones.
    - ``reference``: the pool's reference condition.

    Args:
        data: the step series.
        stops: index of the step of each test prompt under OURS, (n_test,).
    """
    n, k = data.quality.shape[0], len(data.cost)
    own_steps = np.eye(k)[stops]
    nearest = int(np.abs(data.steps - data.steps[stops].mean()).argmin())
    shares = {
        "ours": own_steps,
        "uniform": _uniform_share(data.cost, float(data.cost[stops].mean())),
        "uniform_step": np.eye(k)[nearest],
        "shuffled": own_steps.mean(axis=0),
        "reference": np.eye(k)[data.reference],
    }
    return {name: _condition(data, np.broadcast_to(s, (n, k))) for name, s in shares.items()}


def _uniform_share(costs: Floats, mean_cost: float) -> Floats:
    """Return the share of each step, (n_steps,): two neighbouring steps give ``mean_cost``."""
    k = len(costs)
    share = np.zeros(k)
    left, right_share = neighbouring_steps(costs, mean_cost)
    share[left], share[min(left + 1, k - 1)] = 1 - right_share, right_share
    return np.ones(1) if k == 1 else share


def _condition(data: StepData, share: Floats) -> Condition:
    quality = np.einsum("nmk,nk->nm", data.quality, share)
    efficiency = np.einsum("nmk,nk->nm", data.quality / data.cost, share)
    seconds = None if data.seconds is None else np.einsum("nk,nk->n", data.seconds, share)
    steps = share @ data.steps.astype(float)
    return Condition(share, data.cost, quality, efficiency, steps, seconds)


def baseline_condition(baseline: Baseline) -> Condition:
    """Return the condition of a single candidate for all prompts."""
    cost = np.array([baseline.cost])
    share = np.ones((len(baseline.quality), 1))
    efficiency = baseline.quality / cost
    return Condition(share, cost, baseline.quality, efficiency, None, baseline.seconds)

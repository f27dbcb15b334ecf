"""The conditions that section 4 of the BudgetFusion paper compares, on the test prompts.

A condition assigns a number of denoising steps to each prompt: OURS by the plateau rule, UNIFORM
independently of the prompt, and REFERENCE always that of the pool's reference condition. The
candidates of one generator that differ only in their number of steps are a *step series*.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.plateau_weights import neighbouring_steps


@dataclass(frozen=True)
class Baseline:
    """A candidate outside the step series, such as one with another scheduler.

    Attributes:
        candidate: the name of the candidate.
        cost: the cost of one image.
        quality: the labels, (n_test, n_metrics).
        seconds: the seconds per image, (n_test,); None if unknown.
    """

    candidate: str
    cost: float
    quality: Floats
    seconds: Floats | None = None


@dataclass(frozen=True)
class StepData:
    """The step series of one generator on the test prompts; every quality is higher-is-better.

    Attributes:
        candidates: the names of the candidates, in order of ascending steps.
        steps: the number of steps of each candidate, ascending, (n_steps,).
        cost: the cost of each candidate in ``unit``, ascending, (n_steps,).
        unit: the unit of the costs.
        metrics: the names of the metrics.
        inversion_constants: the upper end of the range of each lower-is-better metric. The quality
            of such a metric is this end minus the value (Table 2: "we inverted them").
        quality: the labels, (n_test, n_metrics, n_steps), usually positive.
        predicted: by estimator, the predicted qualities, (n_test, n_metrics, n_steps); NaN for a
            metric that the estimator is not trained on.
        mean: the means of the training labels, (n_metrics, n_steps).
        reference: the position of the pool's reference condition in the series.
        seconds: the measured seconds per image, (n_test, n_steps); None if unknown.
        baselines: candidates outside the series. Each other step series of the pool has one
            baseline, the candidate whose cost is nearest to the mean cost of OURS.
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
    """The outcome of a condition for each test prompt.

    If the number of steps is random, the statistics are expectations.

    Attributes:
        share: the probability of each number of steps, (n_test, n_steps); (n_test, 1) for a
            baseline.
        cost: the cost of each number of steps, (n_steps,).
        quality: the quality, (n_test, n_metrics).
        efficiency: the quality divided by the cost (equation 8), (n_test, n_metrics).
        steps: the number of steps, (n_test,); None for a baseline.
        seconds: the seconds per image, (n_test,); None if unknown.
    """

    share: Floats
    cost: Floats
    quality: Floats
    efficiency: Floats
    steps: Floats | None = None
    seconds: Floats | None = None

    @property
    def expected_cost(self) -> Floats:
        """The expected cost of each prompt, (n_test,)."""
        expected_cost: Floats = self.share @ self.cost
        return expected_cost


def conditions(data: StepData, t_star: Ints) -> dict[str, Condition]:
    """Return the conditions by name.

    - ``ours`` (OURS): each prompt has its own number of steps, by the plateau rule.
    - ``uniform`` (UNIFORM): the number of steps does not depend on the prompt, and the mean cost is
      that of OURS. In the paper, all prompts have the average number of steps of OURS, which rarely
      exists in a pool. Here, each prompt receives at random the next smaller or the next larger
      number of steps in the pool, with shares that give exactly the mean cost of OURS.
    - ``uniform_step``: all prompts have the same number of steps, the one in the pool that is
      nearest to the average of OURS. This condition may cost more or less than OURS.
    - ``shuffled``: the numbers of steps of OURS are assigned to the prompts at random. The gain of
      OURS over this condition is due only to knowledge of the prompt. Equation 8 cannot show this,
      because a mean of quotients rewards unequal costs: its largest terms are those of the cheap
      images.
    - ``reference`` (REFERENCE): all prompts have the pool's reference condition.

    Args:
        data: the step series.
        t_star: the position in the series of each test prompt's number of steps under OURS,
            (n_test,).
    """
    n, k = data.quality.shape[0], len(data.cost)
    own_steps = np.eye(k)[t_star]
    nearest = int(np.abs(data.steps - data.steps[t_star].mean()).argmin())
    shares = {
        "ours": own_steps,
        "uniform": _uniform_share(data.cost, float(data.cost[t_star].mean())),
        "uniform_step": np.eye(k)[nearest],
        "shuffled": own_steps.mean(axis=0),
        "reference": np.eye(k)[data.reference],
    }
    return {name: _condition(data, np.broadcast_to(s, (n, k))) for name, s in shares.items()}


def _uniform_share(costs: Floats, mean_cost: float) -> Floats:
    """Return the share of each number of steps, (n_steps,), for a given mean cost.

    Only the shares of two neighbouring numbers of steps are above 0.
    """
    k = len(costs)
    share = np.zeros(k)
    left, right_share = neighbouring_steps(costs, mean_cost)
    share[left], share[min(left + 1, k - 1)] = 1 - right_share, right_share
    return np.ones(1) if k == 1 else share


def _condition(data: StepData, share: Floats) -> Condition:
    """Return the expected outcome with probabilities ``share``, (n_test, n_steps)."""
    quality = np.einsum("nmk,nk->nm", data.quality, share)
    efficiency = np.einsum("nmk,nk->nm", data.quality / data.cost, share)
    seconds = None if data.seconds is None else np.einsum("nk,nk->n", data.seconds, share)
    steps = share @ data.steps.astype(float)
    return Condition(share, data.cost, quality, efficiency, steps, seconds)


def baseline_condition(baseline: Baseline) -> Condition:
    """Return the condition in which all prompts have the candidate of a baseline."""
    cost = np.array([baseline.cost])
    share = np.ones((len(baseline.quality), 1))
    efficiency = baseline.quality / cost
    return Condition(share, cost, baseline.quality, efficiency, None, baseline.seconds)

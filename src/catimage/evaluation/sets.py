"""Quality of whole sets of images: the routed sets against those of the fixed candidates
(CATImage's limitation).

Every set has one image of each test prompt and seed, so that all are of one size and of the same
prompts. What a set's figure owes to these very prompts is told by the delete-a-group jackknife over
prompts; two sets are compared on the same groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from catimage.common.arrays import Floats, Ints
from catimage.evaluation.intervals import verdict
from catimage.evaluation.methods import Pool
from catimage.evaluation.text import gain, number
from catimage.metrics.sets.distances import ImageSet
from catimage.metrics.sets.registry import SetMetric
from catimage.routing.policy import choose

GROUPS = 10
FEWEST = 4
"""Fewer prompts than this make no set that is worth a figure."""


@dataclass(frozen=True)
class Sets:
    """What a set metric sees.

    Attributes:
        made: of every image (n_prompts, n_candidates, n_seeds, width).
        real: the real images; those of prompt ``i`` where they are rendered have the prompt ``i``,
            others a number below 0.
        again: as many other real images of the same prompts, where there are any: what a perfect
            generator would make.
        groups: of prompts, each of which the jackknife leaves out once.
    """

    made: Floats
    real: ImageSet | None
    again: ImageSet | None
    groups: list[Ints]

    def picked(self, picks: Ints) -> ImageSet:
        """The images of one candidate for each prompt, ``picks`` (n_prompts,)."""
        rows = np.arange(len(picks))
        values = np.asarray(self.made[rows, picks], float)
        return ImageSet(values.reshape(-1, values.shape[-1]), np.repeat(rows, values.shape[1]))


def grouped(prompts: int, seed: int) -> list[Ints]:
    """At most ten random groups of the prompts 0 to ``prompts`` - 1, as even as can be."""
    order = np.random.default_rng(seed).permutation(prompts)
    return [np.asarray(part) for part in np.array_split(order, min(GROUPS, prompts))]


class Judge:
    """A set metric on the sets of one evaluation; a set that is asked for twice is judged once."""

    def __init__(self, metric: SetMetric, sets: Sets) -> None:
        self._metric, self._sets = metric, sets
        self._known: dict[bytes, Floats] = {}

    def replicates(self, picks: Ints) -> Floats:
        """The figure of the set that ``picks`` makes, and then those without each group of prompts:
        (1 + n_groups,).
        """
        key = picks.tobytes()
        if key not in self._known:
            self._known[key] = self._replicates(self._sets.picked(picks))
        return self._known[key]

    def of_real(self) -> dict[str, float] | None:
        """The figure of other real images."""
        return None if self._sets.again is None else figure(self._replicates(self._sets.again))

    def _replicates(self, made: ImageSet) -> Floats:
        real, metric = self._sets.real if self._metric.needs_reference else None, self._metric
        left = [
            metric.statistic(made.without(g), real and real.without(g)) for g in self._sets.groups
        ]
        return np.array([metric.statistic(made, real), *left])

    def against(self, picks: Ints, rival: Ints) -> dict[str, Any]:
        """By how much the one set is better than the other, with its 95% interval."""
        sign = 1 if self._metric.higher_is_better else -1
        gains = sign * (self.replicates(picks) - self.replicates(rival)) + 0.0  # no -0
        reach = standard_error(gains) * float(t.ppf(0.975, len(gains) - 2))
        return {
            "gain": float(gains[0]),
            "interval": [float(gains[0]) - reach, float(gains[0]) + reach],
        }


def standard_error(replicates: Floats) -> float:
    """The jackknife's, of the first of ``replicates``; the others are without each group (Efron and
    Tibshirani 1993, equation 11.5).
    """
    left = replicates[1:]
    return float(np.sqrt((len(left) - 1) * left.var()))


def figure(replicates: Floats) -> dict[str, float]:
    """``value`` and its standard error ``se``."""
    return {"value": float(replicates[0]), "se": standard_error(replicates)}


def metric_sets(
    metric: SetMetric,
    sets: Sets,
    pool: Pool,
    predicted: Floats,
    picked: Ints,
    document: dict[str, Any],
) -> dict[str, Any]:
    """One metric of ``sets`` in ``metrics.json``.

    ``budget`` is the calibrated router's set, with its ``best_fixed`` candidate's; ``by_candidate``
    has every fixed candidate's set, and the routed set whose lambda was chosen on the validation
    split for that candidate's cost. ``gain`` is higher-is-better throughout.

    Args:
        predicted: the router's predictions (n_prompts, n_candidates).
        picked: the candidate that each prompt gets from the calibrated router, (n_prompts,): an
            image is of one, so that no expectation over the parts of a mixed rule makes a set.
        document: the rest of ``metrics.json``.
    """
    judge, budget = Judge(metric, sets), document["budget"]
    rows = document["methods"][budget["estimator"]]["by_candidate"]
    best = budget["best_fixed"] and budget["best_fixed"]["candidate"]
    rival = None if best is None else np.full(len(predicted), pool.candidates.index(best))
    return {
        "higher_is_better": metric.higher_is_better,
        "real": judge.of_real(),
        "budget": {
            "lambda": budget["lambda"],
            "cost": float(pool.cost[picked].mean()),
            **figure(judge.replicates(picked)),
            "best_fixed": (
                None
                if rival is None
                else {
                    "candidate": best,
                    **figure(judge.replicates(rival)),
                    **judge.against(picked, rival),
                }
            ),
        },
        "by_candidate": [
            _row(judge, pool, m, predicted, row["selected_lambda"]) for m, row in enumerate(rows)
        ],
    }


def _row(judge: Judge, pool: Pool, m: int, predicted: Floats, lam: float) -> dict[str, Any]:
    """The sets of candidate ``m``, and of the router at its cost."""
    fixed, routed = np.full(len(predicted), m), choose(predicted, pool.cost, lam)
    return {
        "candidate": pool.candidates[m],
        "cost": float(pool.cost[m]),
        **figure(judge.replicates(fixed)),
        "selected_lambda": lam,
        "selected_cost": float(pool.cost[routed].mean()),
        "selected": figure(judge.replicates(routed)),
        **judge.against(routed, fixed),
    }


def sentences(sets: dict[str, Any] | None) -> list[str]:
    """What ``sets`` of ``metrics.json`` says, a sentence a metric, and why others were left out."""
    if sets is None:
        return []
    said = [_sentence(name, metric, sets["n_images"]) for name, metric in sets["metrics"].items()]
    return said + [f"Left out: {reason}" for reason in sets["left_out"]]


def _sentence(name: str, metric: dict[str, Any], images: int) -> str:
    budget, real = metric["budget"], metric["real"]
    better = "higher" if metric["higher_is_better"] else "lower"
    text = f"{name} ({better} is better) of the routed set of {images:,} images: {_figure(budget)}"
    if budget["best_fixed"]:
        fixed = budget["best_fixed"]
        text += (
            f"; {fixed['candidate']}'s {_figure(fixed)}, a gain of"
            f" {gain(fixed['gain'], fixed['interval'])}: {verdict(fixed['interval'])}"
        )
    return text + (f"; other real images' {_figure(real)}." if real else ".")


def _figure(found: dict[str, float]) -> str:
    return f"{number(found['value'])} ± {number(found['se'], 2)}"

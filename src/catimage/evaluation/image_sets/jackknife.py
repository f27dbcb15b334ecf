"""Set metrics with standard errors from a delete-a-group jackknife over prompts.

A set metric is a metric of a whole set of images, such as FID. Every set has one image per test
prompt and seed, so all sets have the same size and the same prompts. The jackknife computes the
metric again without each group of prompts, and estimates from the differences how much the metric
depends on the choice of the prompts. For a comparison of two sets, the same groups are left out of
both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from catimage.common.arrays import Floats, Ints
from catimage.metrics.sets.distances import ImageSet
from catimage.metrics.sets.registry import SetMetric

N_GROUPS = 10
"""Number of groups of prompts; the jackknife leaves out one group at a time."""


@dataclass(frozen=True)
class SetFeatures:
    """Features or logits of generated and real images.

    Attributes:
        generated: the values of generated images, (n_prompts, n_candidates, n_seeds, width).
        real: the values of real images, or None. ``real.prompt`` is the position of the prompt
            for a rendered image, and a negative number for any other image.
        more_real: the values of as many other rendered images of the same prompts, or None. They
            show the metric of a perfect generator.
        groups: the positions of the prompts in each jackknife group.
    """

    generated: Floats
    real: ImageSet | None
    more_real: ImageSet | None
    groups: list[Ints]

    def image_set(self, picks: Ints) -> ImageSet:
        """Return the set with the images of one candidate per prompt.

        Args:
            picks: the position of the candidate of each prompt, (n_prompts,).
        """
        rows = np.arange(len(picks))
        values = np.asarray(self.generated[rows, picks], float)
        return ImageSet(values.reshape(-1, values.shape[-1]), np.repeat(rows, values.shape[1]))


def prompt_groups(n_prompts: int, seed: int) -> list[Ints]:
    """Divide the positions 0 to ``n_prompts - 1`` at random into at most ten groups.

    The sizes of two groups differ by at most 1.
    """
    order = np.random.default_rng(seed).permutation(n_prompts)
    return [np.asarray(part) for part in np.array_split(order, min(N_GROUPS, n_prompts))]


class SetStatistic:
    """The values of a set metric for sets with any choice of one candidate per prompt.

    The metric of each set is computed once and cached.

    Args:
        metric: the set metric.
        features: the input of the metric for all images.
    """

    def __init__(self, metric: SetMetric, features: SetFeatures) -> None:
        self._metric, self._features = metric, features
        self._cache: dict[bytes, Floats] = {}

    def replicates(self, picks: Ints) -> Floats:
        """Return the metric of a set, and the metric without each group of prompts.

        Args:
            picks: the position of the candidate of each prompt, (n_prompts,).

        Returns:
            The values, (1 + n_groups,): that of the whole set, then one per group left out.
        """
        key = picks.tobytes()
        if key not in self._cache:
            self._cache[key] = self._replicates(self._features.image_set(picks))
        return self._cache[key]

    def second_real_value(self) -> dict[str, float] | None:
        """Return the metric of the second set of real images, or None if there is no such set."""
        more = self._features.more_real
        return None if more is None else value_and_error(self._replicates(more))

    def _replicates(self, images: ImageSet) -> Floats:
        real, metric = self._features.real if self._metric.needs_reference else None, self._metric
        without = [
            metric.statistic(images.without(group), real and real.without(group))
            for group in self._features.groups
        ]
        return np.array([metric.statistic(images, real), *without])

    def gain(self, picks: Ints, reference: Ints) -> dict[str, Any]:
        """Return the gain of one set over another, and its 95% interval (Student's t).

        A gain above 0 is an improvement, also for a lower-is-better metric.

        Args:
            picks: the position of the candidate of each prompt, (n_prompts,).
            reference: the position of the candidate of each prompt in the other set, (n_prompts,).
        """
        sign = 1 if self._metric.higher_is_better else -1
        gains = sign * (self.replicates(picks) - self.replicates(reference)) + 0.0  # no -0.0
        half_width = jackknife_error(gains) * float(t.ppf(0.975, len(gains) - 2))
        gain = float(gains[0])
        return {"gain": gain, "interval": [gain - half_width, gain + half_width]}


def jackknife_error(replicates: Floats) -> float:
    """Return the jackknife standard error (Efron and Tibshirani 1993, equation 11.5).

    Args:
        replicates: the value of the whole set, then the values without each group, (1 + n_groups,).
    """
    without = replicates[1:]
    return float(np.sqrt((len(without) - 1) * without.var()))


def value_and_error(replicates: Floats) -> dict[str, float]:
    """Return the value of a set metric, ``value``, and its jackknife standard error, ``se``.

    Args:
        replicates: the result of :meth:`SetStatistic.replicates`, (1 + n_groups,).
    """
    return {"value": float(replicates[0]), "se": jackknife_error(replicates)}

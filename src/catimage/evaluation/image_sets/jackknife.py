"""Set metrics with standard errors from a delete-a-group jackknife over prompts.

Every set has one image per test prompt and seed, so all sets have the same size and the same
prompts. The jackknife estimates how much a figure depends on these prompts; two sets are compared
on the same groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from catimage.common.arrays import Floats, Ints
from catimage.metrics.sets.distances import ImageSet
from catimage.metrics.sets.registry import SetMetric

GROUPS = 10
"""Groups of prompts that the jackknife leaves out in turn."""


@dataclass(frozen=True)
class SetFeatures:
    """Features or logits of generated and real images.

    Attributes:
        generated: (n_prompts, n_candidates, n_seeds, width).
        real: real images. Rendered images have the number of their prompt, others a number below 0.
        more_real: as many other real images of the same prompts, or None: the set of a perfect
            generator.
        groups: positions of the prompts in each jackknife group.
    """

    generated: Floats
    real: ImageSet | None
    more_real: ImageSet | None
    groups: list[Ints]

    def image_set(self, picks: Ints) -> ImageSet:
        """Return the images of one candidate per prompt, ``picks`` (n_prompts,)."""
        rows = np.arange(len(picks))
        values = np.asarray(self.generated[rows, picks], float)
        return ImageSet(values.reshape(-1, values.shape[-1]), np.repeat(rows, values.shape[1]))


def prompt_groups(prompts: int, seed: int) -> list[Ints]:
    """Divide the prompts 0 to ``prompts`` - 1 at random into at most ten groups of equal size."""
    order = np.random.default_rng(seed).permutation(prompts)
    return [np.asarray(part) for part in np.array_split(order, min(GROUPS, prompts))]


class SetStatistic:
    """A set metric of any choice of candidates; each set is computed once."""

    def __init__(self, metric: SetMetric, features: SetFeatures) -> None:
        self._metric, self._features = metric, features
        self._cache: dict[bytes, Floats] = {}

    def replicates(self, picks: Ints) -> Floats:
        """Return the metric of a set, and the metric without each group of prompts.

        Args:
            picks: position of the candidate per prompt, (n_prompts,).

        Returns:
            (1 + n_groups,).
        """
        key = picks.tobytes()
        if key not in self._cache:
            self._cache[key] = self._replicates(self._features.image_set(picks))
        return self._cache[key]

    def real_figure(self) -> dict[str, float] | None:
        """Return the metric of further real images, or None without any."""
        more = self._features.more_real
        return None if more is None else figure(self._replicates(more))

    def _replicates(self, images: ImageSet) -> Floats:
        real, metric = self._features.real if self._metric.needs_reference else None, self._metric
        without = [
            metric.statistic(images.without(group), real and real.without(group))
            for group in self._features.groups
        ]
        return np.array([metric.statistic(images, real), *without])

    def gain(self, picks: Ints, reference: Ints) -> dict[str, Any]:
        """Return the gain of one set over another and its 95% interval (Student's t).

        Args:
            picks: position of the candidate per prompt, (n_prompts,).
            reference: positions of the candidates of the other set, (n_prompts,).
        """
        sign = 1 if self._metric.higher_is_better else -1
        gains = sign * (self.replicates(picks) - self.replicates(reference)) + 0.0  # no -0.0
        half_width = jackknife_error(gains) * float(t.ppf(0.975, len(gains) - 2))
        gain = float(gains[0])
        return {"gain": gain, "interval": [gain - half_width, gain + half_width]}


def jackknife_error(replicates: Floats) -> float:
    """Return the jackknife standard error of the first of ``replicates``.

    The others are the values without each group (Efron and Tibshirani 1993, equation 11.5).
    """
    without = replicates[1:]
    return float(np.sqrt((len(without) - 1) * without.var()))


def figure(replicates: Floats) -> dict[str, float]:
    """Return ``value`` and its standard error ``se``."""
    return {"value": float(replicates[0]), "se": jackknife_error(replicates)}

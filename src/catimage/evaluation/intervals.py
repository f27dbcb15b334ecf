"""Standard errors and paired bootstrap intervals over prompts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats

CHUNK_SIZE = 128
"""Number of resamples that are processed at once."""
ROUNDING = 1e-12
"""Differences of at most this share of the larger absolute quality are rounding errors."""
INTERVAL_QUANTILES = ((1 - 0.95) / 2, 1 - (1 - 0.95) / 2)
"""Quantiles at the ends of a 95% interval."""


def percentile_interval(draws: Floats) -> list[float]:
    """Return the 95% percentile interval ``[low, high]`` of resampled values (n_draws,)."""
    low, high = np.quantile(draws, INTERVAL_QUANTILES)
    return [float(low), float(high)]


class PairedBootstrap:
    """Bootstrap resamples of prompts, drawn once and used for every comparison.

    The difference between two policies is taken per prompt and then averaged over the resampled
    prompts, so that variation shared by both policies cancels. Intervals are percentile intervals.

    The array ``counts`` takes one byte per prompt and draw: 10 MB for 5,000 prompts and 2,000
    draws.

    Args:
        prompts: the number of prompts.
        draws: the number of resamples.
        seed: the seed of the random number generator.

    Attributes:
        counts: the number of times that each resample contains each prompt, (draws, prompts).

    Raises:
        ValueError: ``prompts`` or ``draws`` is below 1.
    """

    def __init__(self, prompts: int, draws: int, seed: int) -> None:
        if prompts < 1 or draws < 1:
            raise ValueError(
                f"prompts, draws: a bootstrap needs at least one prompt and one draw, not {prompts}"
                f" and {draws}. Use positive numbers."
            )
        self._seed = seed
        rng = np.random.default_rng(seed)
        chunks = [
            _resample_counts(rng, prompts, min(CHUNK_SIZE, draws - start))
            for start in range(0, draws, CHUNK_SIZE)
        ]
        self.counts: NDArray[np.uint8] = np.concatenate(chunks)

    def for_prompts(self, prompts: int) -> PairedBootstrap:
        """Return a bootstrap of another number of prompts, with the same seed and as many draws."""
        if prompts == self.counts.shape[1]:
            return self
        return PairedBootstrap(prompts, len(self.counts), self._seed)

    def means(self, values: Floats) -> Floats:
        """Return the means of several quantities in each resample.

        Args:
            values: the values of ``k`` quantities, (n_prompts, k).

        Returns:
            The means, (draws, k).

        Raises:
            ValueError: ``values`` has another shape.
        """
        if values.ndim != 2 or len(values) != self.counts.shape[1]:
            n = self.counts.shape[1]
            raise ValueError(f"values: the shape is {values.shape}. Pass an array ({n}, k).")
        pieces = [
            self.counts[i : i + CHUNK_SIZE].astype(float) @ values
            for i in range(0, len(self.counts), CHUNK_SIZE)
        ]
        means: Floats = np.concatenate(pieces) / len(values)
        return means

    def intervals(self, values: Floats) -> Floats:
        """Return the 95% intervals (k, 2) of the means of ``values`` (n_prompts, k)."""
        bounds: Floats = np.quantile(self.means(values), INTERVAL_QUANTILES, axis=0).T
        return bounds

    def interval(self, values: Floats) -> list[float]:
        """Return the 95% interval ``[low, high]`` of the mean of ``values`` (n_prompts,)."""
        low, high = self.intervals(values[:, None])[0]
        return [float(low), float(high)]

    def ratio_interval(self, numerator: Floats, denominator: Floats) -> list[float] | None:
        """Return the 95% interval of the ratio of two means, resampled together.

        Args:
            numerator: the values whose mean is divided, (n_prompts,).
            denominator: the values whose mean it is divided by, (n_prompts,).

        Returns:
            The interval ``[low, high]``; None if the interval of the denominator's mean reaches 0,
            because the ratio is unbounded then.
        """
        means = self.means(np.stack([numerator, denominator], axis=1))
        if np.quantile(means[:, 1], INTERVAL_QUANTILES[0]) <= 0:
            return None
        positive = means[means[:, 1] > 0]
        return percentile_interval(positive[:, 0] / positive[:, 1])


def _resample_counts(rng: np.random.Generator, prompts: int, draws: int) -> NDArray[np.uint8]:
    """Draw the number of times that each resample contains each prompt, (draws, prompts).

    One byte per count suffices, because a count above 255 has a probability below 1e-500.
    """
    picks = rng.integers(0, prompts, (draws, prompts)) + prompts * np.arange(draws)[:, None]
    counts = np.bincount(picks.ravel(), minlength=draws * prompts)
    return counts.reshape(draws, prompts).astype(np.uint8)


def standard_error(values: Floats) -> float | None:
    """Return the standard error of the mean of ``values`` (n_prompts,); None for one prompt."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def gains_over(quality: Floats, reference: Floats) -> Floats:
    """Return ``quality - reference`` per prompt, with rounding errors set to 0.

    Rounding errors occur if two policies choose the same candidate, but its quality is computed as
    a sum in a different order.

    Args:
        quality: the qualities of one policy, (n_prompts,).
        reference: the qualities of the other policy, (n_prompts,).
    """
    gains = np.asarray(quality - reference)
    level = np.maximum(np.abs(quality), np.abs(reference))
    return np.where(np.abs(gains) <= ROUNDING * level, 0.0, gains)


def verdict(interval: list[float]) -> str:
    """Classify the interval of a gain.

    Returns:
        ``better``, ``worse``, or ``nothing significant`` if the interval contains 0.
    """
    low, high = interval
    if low <= 0 <= high:
        return "nothing significant"
    return "better" if low > 0 else "worse"

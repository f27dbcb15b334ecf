"""The scores of one metric as rows, and statistics of them: labels and their noise.

Memory and time grow with the number of scores. An array with one column per seed would grow with
prompts x candidates x all seeds, and imported images often have a seed of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats, Ints
from catimage.errors import InputError

MIN_SLOTS = 16
"""The number of scores of a label up to which :meth:`ScoreRows.by_seed` contains all of them."""


@dataclass(frozen=True)
class ScoreRows:
    """The scores of one metric, sorted by prompt, candidate and seed.

    Attributes:
        prompt: the position of the prompt of each score, (n_scores,).
        candidate: the position of the candidate, (n_scores,).
        seed: the seed of the image, (n_scores,).
        value: the score, (n_scores,), never NaN.
        shape: the number of prompts and the number of candidates.
        path: the file of the scores, for messages.
    """

    prompt: Ints
    candidate: Ints
    seed: Ints
    value: Floats
    shape: tuple[int, int]
    path: Path

    @classmethod
    def select(
        cls,
        scores: pd.DataFrame,
        metric: str,
        prompt_ids: Sequence[str],
        candidates: Sequence[str],
        path: Path,
    ) -> ScoreRows:
        """Select the scores of one metric for some prompts and candidates.

        Args:
            scores: a table with the schema ``SCORES``.
            metric: the name of the metric.
            prompt_ids: the ids of the prompts.
            candidates: the names of the candidates.
            path: the file of the table, for messages.

        Raises:
            InputError: the table has no score by ``metric`` for these prompts and candidates.
        """
        rows = scores.loc[scores["metric"] == metric, ["prompt_id", "candidate", "seed", "value"]]
        prompt = pd.Index(prompt_ids).get_indexer(pd.Index(rows["prompt_id"]))
        candidate = pd.Index(candidates).get_indexer(pd.Index(rows["candidate"]))
        seed, value = rows["seed"].to_numpy(np.int64), rows["value"].to_numpy(float)
        kept = np.flatnonzero((prompt >= 0) & (candidate >= 0) & ~np.isnan(value))
        if not len(kept):
            metrics = sorted(scores["metric"].unique())
            raise InputError(
                f"{path}: no score of the metric {metric!r} for these prompts. Use a metric of the"
                f" table: {', '.join(metrics)}."
            )
        order = kept[np.lexsort((seed[kept], candidate[kept], prompt[kept]))]
        shape = len(prompt_ids), len(candidates)
        return cls(prompt[order], candidate[order], seed[order], value[order], shape, path)

    def negated(self) -> ScoreRows:
        """Return the scores with the opposite sign."""
        return replace(self, value=-self.value)

    def labels(self, complete: bool = True) -> Floats:
        """Return the labels: the means over the seeds (CATImage paper, section 3.2).

        Args:
            complete: if True, every prompt must have a score for every candidate; otherwise a
                missing label is NaN.

        Returns:
            Labels (n_prompts, n_candidates).

        Raises:
            InputError: ``complete`` is True and a label is missing.
        """
        count = self._sums(np.ones(len(self.value)))
        if complete and not count.all():
            incomplete = int((count == 0).any(axis=1).sum())
            raise InputError(
                f"{self.path}: {incomplete} prompts lack a score for at least one candidate. Run"
                " 'catimage label' again, remove these prompts, or set validate.complete_labels to"
                " false."
            )
        labels: Floats = self._sums(self.value) / np.where(count, count, np.nan)
        return labels

    def label_noise(self) -> Floats | None:
        """Return the variance of each label that is due to the random seeds of its images: the
        squared standard error of the mean of its scores.

        Returns:
            Variances (n_prompts, n_candidates), NaN where a label has fewer than two scores; None
            if no label has two scores.
        """
        count = self._sums(np.ones(len(self.value)))
        if not (count > 1).any():
            return None
        deviation = self.value - self.labels(complete=False)[self.prompt, self.candidate]
        n = np.where(count > 1, count, np.nan)
        noise: Floats = self._sums(deviation**2) / (n - 1) / n
        return noise

    def by_seed(self) -> Floats:
        """Return the scores as an array whose third axis has the seeds of each prompt.

        A position on this axis is a seed of the prompt, in ascending order, if the candidates of
        the prompt share seeds (at least half of its seeds have scores of several candidates): a
        seed gives several candidates the same initial noise (CATImage paper, section 5.2). If they
        do not, the k-th position has the k-th score of each candidate.

        The axis is no longer than 16, or than twice the mean number of scores of a label if that is
        more. Further scores of the few prompts that have so many are left out.

        Returns:
            Scores (n_prompts, n_candidates, n_seeds), NaN where a prompt has fewer seeds or a score
            is missing.
        """
        slot, n_labels = self._slots(), int((self._sums(np.ones(len(self.value))) > 0).sum())
        limit = max(MIN_SLOTS, int(np.ceil(2 * len(slot) / n_labels)))
        kept = slot < limit
        values = np.full((*self.shape, min(int(slot.max()) + 1, limit)), np.nan)
        values[self.prompt[kept], self.candidate[kept], slot[kept]] = self.value[kept]
        return values

    def _sums(self, values: Floats) -> Floats:
        """Return the sum of ``values`` (n_scores,) over the scores of each label."""
        n_prompts, n_candidates = self.shape
        label = self.prompt * n_candidates + self.candidate
        sums = np.bincount(label, values, minlength=n_prompts * n_candidates)
        return np.asarray(sums, np.float64).reshape(self.shape)

    def _slots(self) -> Ints:
        """Return the position of each score on the third axis of :meth:`by_seed`, (n_scores,)."""
        order = np.lexsort((self.seed, self.prompt))
        prompt, seed = self.prompt[order], self.seed[order]
        first = np.append(True, (np.diff(prompt) != 0) | (np.diff(seed) != 0))
        pair, prompt_of_pair = np.cumsum(first) - 1, prompt[first]  # pairs of prompt and seed
        is_shared = np.bincount(pair) > 1
        n_pairs, n_shared = (
            np.bincount(prompt_of_pair, weights, minlength=self.shape[0])
            for weights in (None, is_shared)
        )
        by_seed = np.empty(len(order), int)
        by_seed[order] = _position_in_group(prompt_of_pair)[pair]
        by_order = _position_in_group(self.prompt * self.shape[1] + self.candidate)
        return np.where((2 * n_shared >= n_pairs)[self.prompt], by_seed, by_order)


def _position_in_group(group: Ints) -> Ints:
    """Return the position of each element within the run of equal elements of a sorted array."""
    return np.arange(len(group)) - np.searchsorted(group, group)

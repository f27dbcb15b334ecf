"""Token embeddings of prompts of different lengths, as one flat array with offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """Prompts as sequences of token vectors.

    Attributes:
        values: (total_tokens, width), fp16 or fp32.
        offsets: int64 (n_prompts + 1,); prompt ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: NDArray[np.floating]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens a prompt, (n_prompts,)."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The prompts in ``rows``, in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.values[index], offsets)

    def mean(self, per_token: NDArray[np.floating]) -> NDArray[np.floating]:
        """The mean of (total_tokens, k) values over each prompt's tokens: (n_prompts, k)."""
        return np.add.reduceat(per_token, self.offsets[:-1], axis=0) / self.lengths[:, None]


def as_ragged(x: Any) -> Ragged:
    """``x`` itself, or a 2-D array as prompts of one token each."""
    return x if isinstance(x, Ragged) else Ragged(np.asarray(x), np.arange(len(x) + 1))

"""Token embeddings of prompts of different lengths, as one array with offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Ints


@dataclass(frozen=True)
class RaggedArray:
    """Prompts as sequences of token vectors.

    Attributes:
        values: (n_tokens, width), float16 or float32; the tokens of all prompts in order.
        offsets: int64 (n_prompts + 1,); prompt ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: NDArray[np.floating]
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """The number of tokens of each prompt, (n_prompts,)."""
        return np.diff(self.offsets)

    def take(self, rows: Ints) -> RaggedArray:
        """Return the prompts in ``rows``, in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return RaggedArray(self.values[index], offsets)

    def mean(self, per_token: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the mean over the tokens of each prompt, (n_prompts, k).

        Args:
            per_token: (n_tokens, k), for example the output of a network for every token.
        """
        return np.add.reduceat(per_token, self.offsets[:-1], axis=0) / self.lengths[:, None]


def as_ragged_array(x: Any) -> RaggedArray:
    """Return a ragged array unchanged, and a 2-D array as prompts of one token each."""
    return x if isinstance(x, RaggedArray) else RaggedArray(np.asarray(x), np.arange(len(x) + 1))

"""Token embeddings of prompts of different lengths, as one array with offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Ints


@dataclass(frozen=True)
class RaggedArray:
    """Sequences of token vectors, one sequence per prompt.

    Attributes:
        values: float16 or float32 (n_tokens, width), the vectors of the tokens of all prompts, in
            the order of the prompts.
        offsets: int64 (n_prompts + 1,); the tokens of prompt ``i`` are
            ``values[offsets[i]:offsets[i + 1]]``.
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
        """Return the sequences of the prompts with the given indices, in the order of ``rows``."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return RaggedArray(self.values[index], offsets)

    def mean(self, per_token: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the mean over the tokens of each prompt, (n_prompts, k).

        Args:
            per_token: k values per token (n_tokens, k), for example the output of a network.
        """
        return np.add.reduceat(per_token, self.offsets[:-1], axis=0) / self.lengths[:, None]


def as_ragged_array(x: Any) -> RaggedArray:
    """Return a ragged array unchanged; return a 2-D array as sequences of one token each."""
    return x if isinstance(x, RaggedArray) else RaggedArray(np.asarray(x), np.arange(len(x) + 1))

"""Rows of an array without repetitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Ints


def distinct_rows(values: NDArray[Any]) -> tuple[NDArray[Any], Ints]:
    """Return each row once, in order of its first position, and the position of each row in it.

    A product of matrices rounds equal columns differently, depending on their positions and on the
    processor. A result that is computed for distinct rows, and then repeated, is equal for equal
    rows: ``distinct[positions]`` is ``values``.

    Args:
        values: (n_rows, n_columns); rows are equal if their bytes are equal.

    Returns:
        The distinct rows (n_distinct, n_columns), and the positions (n_rows,).
    """
    known: dict[bytes, int] = {}
    positions = np.array([known.setdefault(row.tobytes(), len(known)) for row in values], np.int64)
    first = np.unique(positions, return_index=True)[1]
    return values[first], positions

"""Array types for signatures; docstrings state the shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Float32 = NDArray[np.float32]

"""Array types that signatures use; shapes are stated in docstrings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Float32 = NDArray[np.float32]

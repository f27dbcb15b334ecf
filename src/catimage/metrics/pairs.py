"""Functions for metrics that compare images with their reference images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from catimage.errors import InputError

if TYPE_CHECKING:
    import torch

MAX_PIXELS = 1 << 21
"""The number of pixels to compare at once: two images of 1024 x 1024. The activations of the
networks then take less than a gigabyte."""


def compare_in_parts(
    name: str,
    images: np.ndarray,
    references: np.ndarray,
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Apply ``compare`` to a few images at a time.

    Args:
        name: the name of the metric, for the error message.
        images: uint8 (n, h, w, 3).
        references: uint8 of the same shape.
        compare: a function that returns the scores (m,) of m images and their references.

    Returns:
        The scores, float64 (n,).

    Raises:
        InputError: the references differ from the images in size.
    """
    if images.shape != references.shape:
        sizes = [f"{a.shape[2]}x{a.shape[1]}" for a in (images, references)]
        raise InputError(
            f"label.metrics: {name}: the image has {sizes[0]} pixels and its reference has"
            f" {sizes[1]}."
            " Generate the images of both candidates at the same size."
        )
    step = max(1, MAX_PIXELS // (images.shape[1] * images.shape[2]))
    parts = [
        compare(images[i : i + step], references[i : i + step]) for i in range(0, len(images), step)
    ]
    return np.concatenate(parts).astype(np.float64)


def to_tensor(images: np.ndarray, device: str, dtype: torch.dtype) -> torch.Tensor:
    """Convert uint8 (n, h, w, 3) to a tensor (n, 3, h, w) with values in [0, 1]."""
    import torch

    return torch.tensor(images, device=device).permute(0, 3, 1, 2).to(dtype) / 255


def row_cosines(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """Return the cosine of each row of ``a`` and ``b``, (n, width) each: float64 (n,) in [-1, 1].

    The computation is in double precision, so that equal rows have a cosine of 1.
    """
    import torch

    cosines = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=1)
    return np.asarray(cosines.cpu().numpy().clip(-1, 1))

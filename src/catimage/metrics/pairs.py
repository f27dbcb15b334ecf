"""Images and their references, a few at a time, as the metrics that compare pixels want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from catimage.errors import InputError

if TYPE_CHECKING:
    import torch

PIXELS = 1 << 21
"""So many pixels of images are compared at once: two images of 1024 x 1024, so that the networks'
activations stay under a gigabyte.
"""


def compared(
    name: str,
    images: np.ndarray,
    references: np.ndarray,
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """What ``compare`` says of uint8 (n, h, w, 3) images and as many references of the same size,
    in parts: float64 (n,).

    Raises:
        InputError: the references differ from the images in size.
    """
    if images.shape != references.shape:
        sizes = [f"{a.shape[2]}x{a.shape[1]}" for a in (images, references)]
        raise InputError(
            f"metric {name!r}: the image has {sizes[0]} pixels and its reference {sizes[1]}; it"
            " compares images of one size."
        )
    step = max(1, PIXELS // (images.shape[1] * images.shape[2]))
    parts = [
        compare(images[i : i + step], references[i : i + step]) for i in range(0, len(images), step)
    ]
    return np.concatenate(parts).astype(np.float64)


def tensor_of(images: np.ndarray, device: str, dtype: torch.dtype) -> torch.Tensor:
    """uint8 (n, h, w, 3) as (n, 3, h, w) in [0, 1]."""
    import torch

    return torch.tensor(images, device=device).permute(0, 3, 1, 2).to(dtype) / 255


def cosines(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """Of the rows of (n, width) and (n, width), in double precision, so that equal rows have 1:
    float64 (n,) in [-1, 1].
    """
    import torch

    found: np.ndarray = (
        torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=1).cpu().numpy()
    )
    return found.clip(-1, 1)

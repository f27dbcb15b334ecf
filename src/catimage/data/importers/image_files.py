"""Image files that people have: read whole or refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from catimage.data.shards.store import encode_image
from catimage.errors import InputError

KEPT = ("PNG", "WEBP", "JPEG")
"""Formats whose files are kept as they are; images in others are encoded as PNG."""


def read_image(path: Path) -> tuple[bytes, np.ndarray]:
    """An image file's bytes, to be kept, and its pixels, uint8 (h, w, 3); transparency is dropped.

    Raises:
        InputError: the file is missing, or no whole image.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            pixels, kind = np.asarray(image.convert("RGB")), image.format
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such image file.") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # Pillow has all of these for damaged files
        raise InputError(
            f"{path}: not a readable image file ({str(error).rstrip('.')})."
        ) from error
    return (data if kind in KEPT else encode_image(pixels)), pixels

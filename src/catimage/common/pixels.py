"""Pixels of image files as they are displayed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def rgb_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an image as a viewer displays them on a white page.

    The orientation in the EXIF data is applied, transparent pixels are blended with white, and grey
    levels of 16 bits are scaled to 8 bits.

    Returns:
        uint8 (height, width, 3).

    Raises:
        ValueError: the pixels are floating-point numbers, whose range is unknown.
        OSError: the image is damaged.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers. Save it with 8 bits per channel")
    if image.mode.startswith("I"):
        grey = np.round(np.asarray(image).clip(0, 65535) / 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGBA", layer.size, "white")
        page.alpha_composite(layer)
        image = page
    return np.asarray(image.convert("RGB"))


def is_plain(image: Image.Image) -> bool:
    """Return whether every program that converts an image to RGB gets :func:`rgb_pixels`."""
    rotated = image.getexif().get(0x0112, 1) != 1  # the tag of the orientation
    return image.mode in ("RGB", "L", "P", "1") and not image.has_transparency_data and not rotated

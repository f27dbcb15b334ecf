"""What ``catimage score`` prints: metrics of image files, as the label stage has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from catimage.errors import InputError
from catimage.metrics import get_metric
from catimage.params import Params


def score_rows(images: list[Path], prompt: str, metrics: list[str], params: Params) -> list[dict[str, Any]]:
    """One row an image and metric: ``image, metric, value``. Images may differ in size; transparency is dropped.

    Raises:
        InputError: a file that is missing or no image, an empty prompt, or an unknown metric.
    """
    if not prompt.strip():
        raise InputError("--prompt is empty: say what the images should show.")
    pixels = [_pixels(path) for path in images]
    loaded = [get_metric(name, params.encoder, params.label.device) for name in dict.fromkeys(metrics)]
    return [
        {"image": str(path), "metric": metric.name, "value": float(metric.score(image[None], [prompt])[0])}
        for path, image in zip(images, pixels, strict=True)
        for metric in loaded
    ]


def _pixels(path: Path) -> np.ndarray:
    """uint8 (h, w, 3)."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image file ({error}).") from error

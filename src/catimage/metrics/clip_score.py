"""CLIPScore (CATImage 5.1): the cosine of open_clip's image and text embeddings."""

from __future__ import annotations

import numpy as np

from catimage.metrics.clip import shared_clip
from catimage.metrics.metric import Metric, MetricContext


class ClipScore(Metric):
    """The plain cosine, neither clipped at 0 nor times 100 (0.28 in the paper's Table 1), by the
    CLIP of ``params.encoder``.

    Images are resized and normalised as the model's configuration says. ``version`` holds a digest
    of the weights and of that configuration.

    Raises:
        InputError: the model or device is not to be had.
    """

    name = "clip_score"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, context.encoder)
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """uint8 (n, h, w, 3) and n prompts to float64 (n,), in [-1, 1]."""
        return self._clip.cosines(images, prompts)

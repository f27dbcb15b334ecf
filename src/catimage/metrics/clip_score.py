"""CLIPScore (CATImage paper, section 5.1): cosine of open_clip's image and text embeddings."""

from __future__ import annotations

import numpy as np

from catimage.metrics.clip import shared_clip
from catimage.metrics.metric import Metric, MetricContext


class ClipScore(Metric):
    """The plain cosine of an image and its prompt, by the CLIP of the setting ``encoder``.

    The cosine is neither clipped at 0 nor multiplied by 100. Table 1 of the CATImage paper reports
    about 0.28. Images are resized and normalised by the configuration of the model. ``version`` has
    a digest of the weights and of that configuration.

    Raises:
        InputError: the model or the device is unavailable.
    """

    name = "clip_score"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, context.encoder)
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3), for n prompts."""
        return self._clip.cosines(images, prompts)

"""Semantic similarity of an image and its reference, measured by CLIP."""

from __future__ import annotations

import numpy as np

from catimage.metrics.clip import shared_clip
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import row_cosines


class ClipSimilarity(ReferenceMetric):
    """The cosine of the embeddings of image and reference, by the CLIP of the setting ``encoder``.

    The metric can replace I-CLIP (BudgetFusion paper, section 3.2, equation 4) if no captioner is
    available. I-CLIP compares the captions of the two images. ``version`` has a digest of the
    weights and of the preprocessing.

    Raises:
        InputError: the model or the device is unavailable.
    """

    name = "clip_similarity"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, context.encoder)
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3).

        The n references may have another size than the images.
        """
        return row_cosines(self._clip.embed_images(images), self._clip.embed_images(references))

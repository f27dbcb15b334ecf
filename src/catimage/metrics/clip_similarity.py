"""A high-level distance for pools that have no captioner at hand: how alike a CLIP finds an image
and its reference.
"""

from __future__ import annotations

import numpy as np

from catimage.metrics.clip import shared_clip
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import cosines


class ClipSimilarity(ReferenceMetric):
    """The cosine of the embeddings of image and reference, by the CLIP of ``params.encoder``.

    It stands where BudgetFusion 3.2 has I-CLIP (equation 4), and compares images where that
    compares their captions. ``version`` holds a digest of the weights and of the preprocessing.

    Raises:
        InputError: the model or device is not to be had.
    """

    name = "clip_similarity"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, context.encoder)
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) and n references, which may have another size, to float64 (n,); the
        prompts do not matter.
        """
        return cosines(self._clip.images(images), self._clip.images(references))

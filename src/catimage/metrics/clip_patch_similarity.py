"""Similarity of the layout of an image and its reference by CLIP."""

from __future__ import annotations

import numpy as np

from catimage.metrics.clip import shared_clip
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import row_cosines


class ClipPatchSimilarity(ReferenceMetric):
    """The mean cosine of the patch tokens of image and reference in the middle of a CLIP.

    The CLIP is that of the setting ``encoder``. The metric replaces DreamSim (BudgetFusion 3.2,
    equation 3) if its weights are unavailable. Tokens after half of the blocks describe the content
    of their patch and its surroundings, so that a moved object lowers the score even if the meaning
    of the image is the same. They are taken between two blocks, without a normalisation layer; for
    a convolutional image encoder, they are its features at each position. ``version`` has a digest
    of the weights and of the preprocessing.

    Raises:
        InputError: the model or the device is unavailable.
    """

    name = "clip_patch_similarity"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, context.encoder)
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """Score uint8 (n, h, w, 3) images: float64 (n,). References may have another size."""
        a, b = (self._clip.patches(part) for part in (images, references))
        rows = [tokens.permute(0, 2, 3, 1).flatten(0, 2) for tokens in (a, b)]
        return np.asarray(row_cosines(*rows).reshape(len(images), -1).mean(1))

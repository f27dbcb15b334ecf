"""Similarity of the layouts of an image and its reference, measured by CLIP."""

from __future__ import annotations

import numpy as np

from catimage.metrics.clip import shared_clip
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import row_cosines


class ClipPatchSimilarity(ReferenceMetric):
    """The mean cosine of the patch tokens of an image and its reference.

    The patch tokens are the outputs of the middle block of the image encoder of a CLIP, which is
    the CLIP of the setting ``encoder``. Such a token describes the content of a patch and its
    surroundings, so that a moved object lowers the score even if the meaning of the image is the
    same. No normalisation layer is applied to the tokens; for a convolutional image encoder, the
    tokens are the features at each position.

    The metric can replace DreamSim (BudgetFusion paper, section 3.2, equation 3) if the weights of
    DreamSim are unavailable. ``version`` has a digest of the weights and of the preprocessing.

    Raises:
        InputError: the model or the device is unavailable.
    """

    name = "clip_patch_similarity"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, context.encoder)
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3).

        The n references may have another size than the images.
        """
        a, b = (self._clip.patch_tokens(part) for part in (images, references))
        rows = [tokens.permute(0, 2, 3, 1).flatten(0, 2) for tokens in (a, b)]
        return np.asarray(row_cosines(*rows).reshape(len(images), -1).mean(1))

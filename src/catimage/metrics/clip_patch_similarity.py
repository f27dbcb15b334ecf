"""A mid-level distance for pools that have no DreamSim at hand: how alike a CLIP finds an image and
its reference, place by place.
"""

from __future__ import annotations

import numpy as np

from catimage.metrics.clip import shared_clip
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import cosines


class ClipPatchSimilarity(ReferenceMetric):
    """The mean over patches of the cosine of image's and reference's tokens, after half of the
    blocks of ``params.encoder``'s CLIP.

    It stands where BudgetFusion 3.2 has DreamSim (equation 3): half-way tokens know what is at
    their place and around it, so that a moved object costs even where the whole image means the
    same. Tokens are those between two blocks, without a norm; where the image tower is a
    convolutional network, its half-way features at each place. ``version`` holds a digest of the
    weights and preprocessing.

    Raises:
        InputError: the model or device is not to be had.
    """

    name = "clip_patch_similarity"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, context.encoder)
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) and n references, which may have another size, to float64 (n,); the
        prompts do not matter.
        """
        a, b = (self._clip.patches(part) for part in (images, references))
        rows = [tokens.permute(0, 2, 3, 1).flatten(0, 2) for tokens in (a, b)]
        found: np.ndarray = cosines(*rows).reshape(len(images), -1).mean(1)
        return found

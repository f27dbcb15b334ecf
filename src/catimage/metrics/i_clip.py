"""I-CLIP, BudgetFusion 3.2 (equation 4): do an image and its reference get captions that mean the
same?
"""

from __future__ import annotations

import hashlib

import numpy as np

from catimage.metrics.captions import Captioner
from catimage.metrics.clip import shared_clip
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import cosines


class IClip(ReferenceMetric):
    """The cosine of the text embeddings of two captions, the image's and its reference's.

    The paper names no captioner ("CLIP captioning"); here it is open_clip's CoCa, greedily.
    Captions are embedded by the CLIP of ``params.encoder``. Those of references are made once in a
    run. ``version`` holds a digest of both models.

    Raises:
        InputError: a model or device is not to be had.
    """

    name = "i_clip"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._captioner: Captioner = context.shared(
            (Captioner, self.name), lambda: Captioner(context, self.name)
        )
        self._clip = shared_clip(context, context.encoder)
        both = f"{self._captioner.digest} {self._clip.digest}"
        self.version = f"1-{hashlib.sha256(both.encode()).hexdigest()[:12]}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) and n references, which may have another size, to float64 (n,); the
        prompts do not matter.
        """
        said = self._captioner.captions(images), self._captioner.known(references)
        return cosines(*(self._clip.texts(captions, keep=False) for captions in said))

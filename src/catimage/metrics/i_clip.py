"""I-CLIP: similarity of the captions of two images.

See the BudgetFusion paper, section 3.2, equation 4.
"""

from __future__ import annotations

import hashlib

import numpy as np

from catimage.metrics.captions import Captioner
from catimage.metrics.clip import shared_clip
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import row_cosines


class IClip(ReferenceMetric):
    """The cosine of the text embeddings of the captions of an image and of its reference.

    The paper names no captioner ("CLIP captioning"). Here open_clip's CoCa with greedy decoding is
    used. Captions are embedded by the CLIP of the setting ``encoder``. Captions of references are
    cached. ``version`` has a digest of both models.

    Raises:
        InputError: a model or the device is unavailable.
    """

    name = "i_clip"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._captioner: Captioner = context.shared(
            (Captioner, self.name), lambda: Captioner(context, self.name)
        )
        self._clip = shared_clip(context, context.encoder)
        digests = f"{self._captioner.digest} {self._clip.digest}"
        self.version = f"1-{hashlib.sha256(digests.encode()).hexdigest()[:12]}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3).

        The n references may have another size than the images.
        """
        captions = self._captioner.captions(images), self._captioner.cached_captions(references)
        return row_cosines(*(self._clip.embed_texts(texts, cache=False) for texts in captions))

"""LAION's aesthetic scores: heads on the image embeddings of OpenAI's CLIP ViT-L/14."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from catimage.metrics.clip import SharedClip, digest_of, shared_clip
from catimage.metrics.metric import Metric, MetricContext
from catimage.metrics.weights import load_state, weights_file
from catimage.params import EncoderParams

if TYPE_CHECKING:
    import torch

VIT_L_14 = EncoderParams(model="ViT-L-14-quickgelu", weights="openai")
"""The CLIP that the heads were trained on; OpenAI's models use QuickGELU."""


class AestheticV1(Metric):
    """LAION's linear head w.e + b on the unit embedding e (CATImage paper, section 5.1).

    Higher is better. The head was fitted to ratings from 1 to 10, but its output is not clipped to
    this range: LAION publishes embeddings with the head, of which one with the rating 0 scores -2.5
    and one with the rating 9 scores 11.3. The declared range is therefore unbounded; set ``scale``
    if the metric is a term of a composite.

    The file of weights, ``sa_0_4_vit_l_14_linear.pth`` of github.com/LAION-AI/aesthetic-predictor,
    must be in the folder ``label.weights.aesthetic_v1``. If that folder also contains a CLIP in
    open_clip's layout (``open_clip_config.json``), that CLIP is used; otherwise open_clip downloads
    OpenAI's CLIP.

    Raises:
        InputError: the weights or the device are unavailable.
    """

    name = "aesthetic_v1"
    range = (float("-inf"), float("inf"))
    file: ClassVar[str] = "sa_0_4_vit_l_14_linear.pth"

    def __init__(self, context: MetricContext) -> None:
        path = weights_file(context, self.name, self.file)
        self._clip = shared_clip(context, _clip_of(path.parent))
        self._head = self.head(_width(self._clip)).eval().requires_grad_(False)
        load_state(self._head, path, self.name)
        self.version = f"1-{digest_of(self._head, self._clip.digest)}"

    @staticmethod
    def head(width: int) -> Any:
        """Return the untrained head for embeddings of the given width."""
        from torch import nn

        return nn.Linear(width, 1)

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3); prompts are ignored."""
        import torch

        with torch.inference_mode():
            scores: torch.Tensor = self._head(self._clip.embed_images(images).cpu())
        return np.asarray(scores[:, 0].double().numpy())


class AestheticV2(AestheticV1):
    """The "improved aesthetic predictor", which was used to select LAION-Aesthetics.

    The head has five linear layers without activations, which are equivalent to one linear map of
    the unit embedding; the dropout layers between them have no effect at inference. Most images
    score 4 to 7. Direction, range and location of the weights are those of :class:`AestheticV1`;
    the file is ``sac+logos+ava1-l14-linearMSE.pth`` of
    github.com/christophschuhmann/improved-aesthetic-predictor.
    """

    name = "aesthetic_v2"
    file: ClassVar[str] = "sac+logos+ava1-l14-linearMSE.pth"

    @staticmethod
    def head(width: int) -> Any:
        """Return the untrained head. The dropout layers are needed for the layer names."""
        from collections import OrderedDict

        from torch import nn

        layers = [
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        ]
        return nn.Sequential(OrderedDict(layers=nn.Sequential(*layers)))


def _clip_of(folder: Path) -> EncoderParams:
    if (folder / "open_clip_config.json").is_file():
        return EncoderParams(model=f"local-dir:{folder}")
    return VIT_L_14


def _width(clip: SharedClip) -> int:
    """Return the width of the embeddings of a CLIP."""
    return int(clip.embed_texts([""], cache=False).shape[1])

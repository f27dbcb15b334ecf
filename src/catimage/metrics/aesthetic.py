"""Aesthetic scores of LAION: a head on the embedding of an image by OpenAI's CLIP ViT-L/14
(CATImage 5.1 uses the first).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from catimage.metrics.clip import SharedClip, digest_of, shared_clip
from catimage.metrics.metric import Metric, MetricContext
from catimage.metrics.weights import load_state, weights_file
from catimage.params import Encoder

if TYPE_CHECKING:
    import torch

VIT_L_14 = Encoder(model="ViT-L-14-quickgelu", weights="openai")
"""The CLIP that the heads were trained on (OpenAI's models have QuickGELU). The two scores share
it.
"""


class AestheticV1(Metric):
    """LAION's linear head (github.com/LAION-AI/aesthetic-predictor): w.e + b of the unit embedding
    e; higher is better.

    It was fitted to ratings from 1 to 10 and is not cut off there: of the embeddings that LAION
    publishes beside it, one of rating 0 has
    -2.5 and one of rating 9 has 11.3. The range is therefore unbounded; in a composite, give its
    ``scale``.

    The weights are ``sa_0_4_vit_l_14_linear.pth`` in the folder that ``label.weights.aesthetic_v1``
    names (LAION publishes them on GitHub, so that there is no default). Where that folder holds a
    CLIP in open_clip's layout too (``open_clip_config.json``), that one is used; otherwise
    open_clip fetches OpenAI's.

    Raises:
        InputError: the weights or the device are not to be had.
    """

    name = "aesthetic_v1"
    range = (float("-inf"), float("inf"))
    file: ClassVar[str] = "sa_0_4_vit_l_14_linear.pth"

    def __init__(self, context: MetricContext) -> None:
        path = weights_file(context, self.name, self.file)
        self._clip = shared_clip(context, _clip_beside(path))
        self._head = self.head(_width(self._clip)).eval().requires_grad_(False)
        load_state(self._head, path, self.name)
        self.version = f"1-{digest_of(self._head, self._clip.digest)}"

    @staticmethod
    def head(width: int) -> Any:
        """The untrained head on embeddings of ``width``, named as in the file."""
        from torch import nn

        return nn.Linear(width, 1)

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """uint8 (n, h, w, 3) to float64 (n,); the prompts do not matter."""
        import torch

        with torch.inference_mode():
            found: torch.Tensor = self._head(self._clip.images(images).cpu())
        return np.asarray(found[:, 0].double().numpy())


class AestheticV2(AestheticV1):
    """The "improved aesthetic predictor"
    (github.com/christophschuhmann/improved-aesthetic-predictor), by which LAION-Aesthetics was
    made.

    Five linear layers on the unit embedding with dropout between them, which does nothing at
    inference, and no activations: they amount to one linear map. Direction and range are those of
    :class:`AestheticV1` (most images have 4 to 7), and so are the places of its weights,
    ``sac+logos+ava1-l14-linearMSE.pth``.
    """

    name = "aesthetic_v2"
    file: ClassVar[str] = "sac+logos+ava1-l14-linearMSE.pth"

    @staticmethod
    def head(width: int) -> Any:
        """The untrained head; the places of the dropouts count in the names of the layers."""
        from collections import OrderedDict

        from torch import nn

        drop = nn.Dropout
        layers = [
            nn.Linear(width, 1024),
            drop(0.2),
            nn.Linear(1024, 128),
            drop(0.2),
            nn.Linear(128, 64),
            drop(0.1),
        ]
        return nn.Sequential(
            OrderedDict(layers=nn.Sequential(*layers, nn.Linear(64, 16), nn.Linear(16, 1)))
        )


def _clip_beside(path: Path) -> Encoder:
    folder = path.parent
    return (
        Encoder(model=f"local-dir:{folder}")
        if (folder / "open_clip_config.json").is_file()
        else VIT_L_14
    )


def _width(clip: SharedClip) -> int:
    """Of its embeddings."""
    return int(clip.texts([""], keep=False).shape[1])

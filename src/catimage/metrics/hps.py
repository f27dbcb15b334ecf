"""HPSv2.1 (Wu et al. 2023, github.com/tgxs002/HPSv2): a CLIP ViT-H/14 fine-tuned on which of two
images people prefer for a prompt.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from catimage.common.devices import device_of
from catimage.metrics.clip import SharedClip
from catimage.metrics.metric import Metric, MetricContext
from catimage.metrics.weights import load_state, weights_file


class HpsV2(Metric):
    """The plain cosine of image and prompt, as the official ``hpsv2.score`` returns it (0.2 to
    0.35; its benchmark's table is times 100).

    Images are scaled as floating-point tensors, bicubic and antialiased, as the official transform
    does with torchvision 0.17 or later (earlier ones did not antialias tensors), and not as 8-bit
    images, as other CLIPs have it.

    The weights are ``HPS_v2.1_compressed.pt`` (of ``xswu/HPSv2`` on the hub):
    ``label.weights.hps_v2`` names a folder with that file, or the repository with a revision. There
    is no default, since no revision of it is published anywhere that could be held against it.

    Raises:
        InputError: the weights or the device are not to be had.
    """

    name = "hps_v2"
    range = (-1.0, 1.0)
    file: ClassVar[str] = "HPS_v2.1_compressed.pt"
    architecture: ClassVar[str] = "ViT-H-14"
    """open_clip's name of it."""

    def __init__(self, context: MetricContext) -> None:
        from open_clip import create_model, get_tokenizer

        device_of(context.device)
        path = weights_file(context, self.name, self.file)
        model = create_model(self.architecture, load_weights=False).eval().requires_grad_(False)
        load_state(model, path, self.name)
        self._clip = SharedClip(
            model,
            get_tokenizer(self.architecture),
            _preprocess(model.visual.image_size),
            context.device,
        )
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """uint8 (n, h, w, 3) and n prompts to float64 (n,), in [-1, 1]."""
        return self._clip.cosines(images, prompts)


def _preprocess(size: int | tuple[int, int]) -> Any:
    """The official transform of an image: to a tensor first, then scaled and cropped."""
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from torchvision.transforms import (
        CenterCrop,
        Compose,
        InterpolationMode,
        Normalize,
        Resize,
        ToTensor,
    )

    side = size if isinstance(size, int) else size[0]
    resize = Resize(side, interpolation=InterpolationMode.BICUBIC, antialias=True)
    return Compose(
        [ToTensor(), resize, CenterCrop(side), Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)]
    )

"""HPSv2.1 (Wu et al. 2023): a CLIP ViT-H/14 fine-tuned on human preferences between two images."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from catimage.common.devices import device_of
from catimage.metrics.clip import SharedClip
from catimage.metrics.metric import Metric, MetricContext
from catimage.metrics.weights import load_state, weights_file


class HpsV2(Metric):
    """The plain cosine of image and prompt, which the official ``hpsv2.score`` returns.

    Most images score 0.2 to 0.35; published tables show the scores multiplied by 100. Images are
    resized as floating-point tensors, bicubic and antialiased, as in the official code
    (github.com/tgxs002/HPSv2) with torchvision 0.17 or later, and not as 8-bit images as in other
    CLIP models.

    The file of weights is ``HPS_v2.1_compressed.pt`` (``xswu/HPSv2`` on the hub).
    ``label.weights.hps_v2`` names a folder with the file, or the repository with a revision. There
    is no default, because no revision is published that the file could be verified against.

    Raises:
        InputError: the weights or the device are unavailable.
    """

    name = "hps_v2"
    range = (-1.0, 1.0)
    file: ClassVar[str] = "HPS_v2.1_compressed.pt"
    architecture: ClassVar[str] = "ViT-H-14"
    """The name of the architecture in open_clip."""

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
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3), for n prompts."""
        return self._clip.cosines(images, prompts)


def _preprocess(size: int | tuple[int, int]) -> Any:
    """Return the official transform: conversion to a tensor, then resizing and cropping."""
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

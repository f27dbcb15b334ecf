"""LPIPS, the learned perceptual distance of an image and its reference (Zhang et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from catimage.common.devices import device_of
from catimage.errors import InputError
from catimage.metrics.clip import digest_of
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import compare_in_parts, to_tensor
from catimage.metrics.weights import read_state, weights_folder

BACKBONES: Mapping[Literal["alex", "vgg"], str] = MappingProxyType(
    {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
)
"""torchvision's files of ImageNet weights. torch stores downloads of them in
``~/.cache/torch/hub/checkpoints``."""


class Lpips(ReferenceMetric):
    """torchmetrics' LPIPS at the original size of the images.

    The distance is a weighted sum of squared distances of normalised features in five layers of a
    backbone; the weights of the sum are part of torchmetrics. The backbone is AlexNet, as the
    authors of LPIPS recommend, or VGG-16 if the folder ``label.weights.lpips`` contains only the
    weights of VGG-16. The distance is unbounded by definition, and mostly below 1 for photographs.

    Raises:
        InputError: the weights of the backbone or the device are unavailable.
    """

    name = "lpips"
    range = (0.0, float("inf"))
    higher_is_better = False

    def __init__(self, context: MetricContext) -> None:
        self.device = device_of(context.device)
        self._net = _network(context).to(self.device)
        self.version = f"1-{digest_of(self._net)}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3).

        The references have the shape of the images.

        Raises:
            InputError: the references have another size.
        """
        return compare_in_parts(self.name, images, references, self._compare)

    def _compare(self, images: np.ndarray, references: np.ndarray) -> np.ndarray:
        import torch

        pair = [to_tensor(part, self.device, torch.float32) for part in (images, references)]
        with torch.inference_mode():
            distances = self._net(*pair, normalize=True).reshape(len(images))
        return np.asarray(distances.cpu().numpy())


def _network(context: MetricContext) -> Any:
    """Return torchmetrics' network with the backbone in the folder of the weights."""
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    folder = weights_folder(context, Lpips.name, list(BACKBONES.values()))
    kind = next((kind for kind, file in BACKBONES.items() if (folder / file).is_file()), None)
    if kind is None:
        raise InputError(
            f"params.yaml: label.weights.lpips: {folder} has neither"
            f" {' nor '.join(BACKBONES.values())}. Put one of them there."
        )
    # With pnet_rand=False, torchmetrics would download weights and unpickle arbitrary objects.
    network = _NoTrainLpips(net=kind, pnet_rand=True)
    state = read_state(folder / BACKBONES[kind], Lpips.name)
    try:  # torchmetrics' tensor slice1.0.weight is torchvision's features.0.weight
        network.net.load_state_dict(
            {name: state["features." + name.split(".", 1)[1]] for name in network.net.state_dict()}
        )
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"params.yaml: label.weights.lpips: {folder / BACKBONES[kind]} has the weights of"
            " another model. Download torchvision's file."
        ) from error
    return network

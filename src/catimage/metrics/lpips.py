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
from catimage.metrics.pairs import compared, tensor_of
from catimage.metrics.weights import read_state, weights_folder

BACKBONES: Mapping[Literal["alex", "vgg"], str] = MappingProxyType(
    {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
)
"""torchvision's files of its ImageNet weights, as it names them; torch keeps them in
``~/.cache/torch/hub/checkpoints``.
"""


class Lpips(ReferenceMetric):
    """torchmetrics' LPIPS at the images' own size: squared distances of unit features of five
    layers, weighted by its trained heads.

    The heads come with torchmetrics. The backbone is AlexNet, as LPIPS's authors have it for a
    metric, or VGG-16 where the folder of ``label.weights.lpips`` has that alone. A distance has no
    upper bound by definition; between photographs it is mostly below 1.

    Raises:
        InputError: the backbone's weights or the device are not to be had.
    """

    name = "lpips"
    range = (0.0, float("inf"))
    higher_is_better = False

    def __init__(self, context: MetricContext) -> None:
        self.device = device_of(context.device)
        self._net = _network(context).to(self.device)
        self.version = f"1-{digest_of(self._net)}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) and references of the same shape to float64 (n,); the prompts do not
        matter.

        Raises:
            InputError: the references have another size.
        """
        return compared(self.name, images, references, self._compare)

    def _compare(self, images: np.ndarray, references: np.ndarray) -> np.ndarray:
        import torch

        pair = [tensor_of(part, self.device, torch.float32) for part in (images, references)]
        with torch.inference_mode():
            found: np.ndarray = self._net(*pair, normalize=True).reshape(len(images)).cpu().numpy()
        return found


def _network(context: MetricContext) -> Any:
    """torchmetrics' network with the backbone of the weights' folder."""
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    folder = weights_folder(context, Lpips.name, list(BACKBONES.values()))
    kind = next((kind for kind, file in BACKBONES.items() if (folder / file).is_file()), None)
    if kind is None:
        raise InputError(
            f"params.yaml: label.weights.lpips: {folder} has neither"
            f" {' nor '.join(BACKBONES.values())}; put one there."
        )
    network = _NoTrainLpips(
        net=kind, pnet_rand=True
    )  # its own way to weights is a download and a full unpickling
    state = read_state(folder / BACKBONES[kind], Lpips.name)
    try:
        network.net.load_state_dict(
            {name: state["features." + name.split(".", 1)[1]] for name in network.net.state_dict()}
        )
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"params.yaml: label.weights.lpips: {folder / BACKBONES[kind]} holds the weights of"
            " another model."
        ) from error
    return network

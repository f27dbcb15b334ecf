"""The networks whose eyes the metrics of sets see with: the tiny pool's CLIP, and the Inception
network of FID.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from catimage.common.arrays import Floats
from catimage.common.devices import device_of
from catimage.errors import InputError
from catimage.metrics.clip import digest_of, shared_clip
from catimage.metrics.metric import Context
from catimage.metrics.weights import read_state, weights_file
from catimage.params import Encoder
from catimage.scenes.grammar import draw_scene

BATCH = 32
CLASSES = 100
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
"""The file of torch-fidelity's release v0.2.0: the Inception network of 2015-12-05, which FID and
the Inception Score are defined by.
"""


class Extractor(ABC):
    """A network that turns images into features (n, width), and features into logits (n, classes).
    ``version`` identifies its weights.
    """

    version: str

    @abstractmethod
    def features(self, images: np.ndarray) -> Floats:
        """Of uint8 (n, h, w, 3), n at most :data:`BATCH`: float64 (n, width)."""

    @abstractmethod
    def logits(self, features: Floats) -> Floats:
        """Float64 (n, classes)."""

    def all_features(self, images: Iterable[np.ndarray]) -> Floats:
        """Of images uint8 (h, w, 3), whose sizes may differ: float64 (n, width). Holds a batch of
        them at a time.
        """
        batches = (batch for _, same in groupby(images, key=np.shape) for batch in _batches(same))
        return np.concatenate([self.features(batch) for batch in batches])


def _batches(images: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    held: list[np.ndarray] = []
    for image in images:
        held.append(image)
        if len(held) == BATCH:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


def load_extractor(network: Literal["tiny", "inception"], context: Context) -> Extractor:
    """The extractor of that name.

    Raises:
        InputError: its weights or the device are not to be had.
    """
    return TinyClip(context) if network == "tiny" else Inception(context)


class TinyClip(Extractor):
    """The CLIP of the tiny pool, whatever the router's own encoder is: a name of a metric stands
    for one network.

    Features are the image embeddings of length sqrt(width), so that the kernel of the kernel
    distance is (cosine + 1)^3. The logits are those of a zero-shot classifier of scenes, whose
    classes are a hundred captions that never change (:func:`captions`).
    """

    def __init__(self, context: Context) -> None:
        self._clip = shared_clip(context, Encoder())
        self.version = (
            f"1-{hashlib.sha256(f'{self._clip.digest} {captions()}'.encode()).hexdigest()[:12]}"
        )
        self._classes: Floats = self._clip.texts(captions()).double().cpu().numpy()

    def features(self, images: np.ndarray) -> Floats:
        """Of uint8 (n, h, w, 3): float64 (n, width)."""
        unit = self._clip.images(images).double().cpu().numpy()
        return np.asarray(unit * np.sqrt(unit.shape[1]))

    def logits(self, features: Floats) -> Floats:
        """Float64 (n, 100): how well each caption of :func:`captions` fits, times the scale that
        the CLIP was trained with.
        """
        return np.asarray(
            self._clip.scale / np.sqrt(features.shape[1]) * features @ self._classes.T
        )


def captions() -> list[str]:
    """A hundred captions of scenes of all kinds, the same ones always."""
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(draw_scene(rng).caption() for _ in range(2 * CLASSES)))[:CLASSES]


class Inception(Extractor):
    """torchmetrics' Inception network on weights that ``label.weights.inception`` names: 2048
    features, 1008 logits without their bias.

    Images are resized to 299 pixels with antialiasing, as torchmetrics does by default.
    """

    def __init__(self, context: Context) -> None:
        from torchmetrics.image.fid import NoTrainInceptionV3

        path = weights_file(context, "inception", INCEPTION)
        self._device = device_of(context.device)
        try:
            network: Any = NoTrainInceptionV3(
                "inception-v3-compat", ["2048"], cast(Any, _copied(path))
            )
        except RuntimeError as error:
            what = (
                f"{path} does not hold torch-fidelity's Inception network; fetch {INCEPTION} of its"
                " release v0.2.0"
            )
            raise InputError(f"params.yaml: label.weights.inception: {what}.") from error
        self.version = f"1-{digest_of(network)}"
        self._network = network.to(self._device)
        self._head: Floats = network.fc.weight.detach().double().cpu().numpy()

    def features(self, images: np.ndarray) -> Floats:
        """Of uint8 (n, h, w, 3): float64 (n, 2048)."""
        import torch

        with torch.inference_mode():
            found: torch.Tensor = self._network(
                torch.from_numpy(images).permute(0, 3, 1, 2).to(self._device)
            )
        return np.asarray(found.double().cpu().numpy())

    def logits(self, features: Floats) -> Floats:
        """Float64 (n, 1008)."""
        return np.asarray(features @ self._head.T)


def _copied(path: Path) -> io.BytesIO:
    """The weights of ``path`` as a pickle in memory: torch-fidelity unpickles whatever it is given,
    and this one was written here.
    """
    import torch

    copy = io.BytesIO()
    torch.save(read_state(path, "inception"), copy)
    copy.seek(0)
    return copy

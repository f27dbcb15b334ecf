"""Feature extractors for the metrics of sets: the embedded CLIP, and FID's Inception network."""

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
from catimage.metrics.metric import MetricContext
from catimage.metrics.weights import read_state, weights_file
from catimage.params import EncoderParams
from catimage.scenes.grammar import sample_scene

BATCH_SIZE = 32
N_CLASSES = 100
"""The number of classes of the zero-shot classifier."""
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
"""The file of torch-fidelity's release v0.2.0: the Inception network of 2015-12-05, which defines
FID and the Inception Score."""


class Extractor(ABC):
    """A network that maps images to features, and features to logits of classes.

    Attributes:
        version: a string that changes with the network and its weights.
    """

    version: str

    @abstractmethod
    def features(self, images: np.ndarray) -> Floats:
        """Return the features (n, width) of images, uint8 (n, h, w, 3).

        At most :data:`BATCH_SIZE` images are passed at once.
        """

    @abstractmethod
    def logits(self, features: Floats) -> Floats:
        """Return the logits (n, n_classes) of features (n, width)."""

    def all_features(self, images: Iterable[np.ndarray]) -> Floats:
        """Return the features (n, width) of images, uint8 (h, w, 3) each, which may differ in size.

        At most one batch of images is in memory at a time.
        """
        batches = (
            image_batch
            for _, images_of_one_size in groupby(images, key=np.shape)
            for image_batch in _batches(images_of_one_size)
        )
        return np.concatenate([self.features(image_batch) for image_batch in batches])


def _batches(images: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    image_batch: list[np.ndarray] = []
    for image in images:
        image_batch.append(image)
        if len(image_batch) == BATCH_SIZE:
            yield np.stack(image_batch)
            image_batch = []
    if image_batch:
        yield np.stack(image_batch)


def load_extractor(network: Literal["tiny", "inception"], context: MetricContext) -> Extractor:
    """Load an extractor by the name of its network.

    Raises:
        InputError: the weights or the device are unavailable.
    """
    return TinyClipExtractor(context) if network == "tiny" else InceptionExtractor(context)


class TinyClipExtractor(Extractor):
    """The embedded CLIP, which is used even if the router uses another text encoder.

    Features are image embeddings scaled to the length sqrt(width), so that the kernel of the kernel
    distance is (cosine + 1)^3. Logits are those of a zero-shot classifier whose classes are the
    captions of :func:`class_captions`.
    """

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, EncoderParams())
        identity = f"{self._clip.digest} {class_captions()}"
        self.version = f"1-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
        self._classes: Floats = self._clip.embed_texts(class_captions()).double().cpu().numpy()

    def features(self, images: np.ndarray) -> Floats:
        """Return the features (n, width) of images, uint8 (n, h, w, 3)."""
        unit = self._clip.embed_images(images).double().cpu().numpy()
        return np.asarray(unit * np.sqrt(unit.shape[1]))

    def logits(self, features: Floats) -> Floats:
        """Return the logits (n, 100): cosines with the captions times the CLIP's logit scale."""
        return np.asarray(
            self._clip.scale / np.sqrt(features.shape[1]) * features @ self._classes.T
        )


def class_captions() -> list[str]:
    """Return 100 fixed captions of the scene grammar, the classes of the zero-shot classifier."""
    rng = np.random.default_rng(0)
    captions = dict.fromkeys(sample_scene(rng).caption() for _ in range(2 * N_CLASSES))
    return list(captions)[:N_CLASSES]


class InceptionExtractor(Extractor):
    """torchmetrics' Inception network: 2048 features, and 1008 logits without bias.

    Images are resized to 299 pixels with antialiasing, as torchmetrics does by default.
    ``label.weights.inception`` names the weights.
    """

    def __init__(self, context: MetricContext) -> None:
        from torchmetrics.image.fid import NoTrainInceptionV3

        path = weights_file(context, "inception", INCEPTION_FILE)
        self._device = device_of(context.device)
        try:
            network: Any = NoTrainInceptionV3(
                "inception-v3-compat", ["2048"], cast(Any, _as_pickle(path))
            )
        except RuntimeError as error:
            raise InputError(
                f"params.yaml: label.weights.inception: {path} does not contain torch-fidelity's"
                f" Inception network. Download {INCEPTION_FILE} of its release v0.2.0."
            ) from error
        self.version = f"1-{digest_of(network)}"
        self._network = network.to(self._device)
        self._head: Floats = network.fc.weight.detach().double().cpu().numpy()

    def features(self, images: np.ndarray) -> Floats:
        """Return the features (n, 2048) of images, uint8 (n, h, w, 3)."""
        import torch

        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(self._device)
        with torch.inference_mode():
            features: torch.Tensor = self._network(pixels)
        return np.asarray(features.double().cpu().numpy())

    def logits(self, features: Floats) -> Floats:
        """Return the logits (n, 1008) of features (n, 2048)."""
        return np.asarray(features @ self._head.T)


def _as_pickle(path: Path) -> io.BytesIO:
    """Return the tensors of ``path`` as a pickle in memory.

    torch-fidelity unpickles any object in the file that it is given. ``read_state`` loads only
    tensors, so that unpickling this copy of the file is safe.
    """
    import torch

    copy = io.BytesIO()
    torch.save(read_state(path, "inception"), copy)
    copy.seek(0)
    return copy

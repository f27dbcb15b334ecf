"""DreamSim: a learned distance of the layout, pose and content of two images.

See the BudgetFusion paper, section 3.2, equation 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catimage.common.devices import device_of
from catimage.errors import InputError, error_summary
from catimage.metrics.clip import digest_of
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.weights import load_state, weights_folder

DINO = "checkpoints/dino_vitbase16_pretrain.pth"
FILES = (
    DINO,
    "clip_vitb16_pretrain.pth.tar",
    "open_clip_vitb16_pretrain.pth.tar",
    "ensemble_lora/adapter_config.json",
)
"""The files to read from the folder ``label.weights.dreamsim``, which is the ``cache_dir`` of the
``dreamsim`` package after the package has run once."""
BATCH_SIZE = 32


class DreamSim(ReferenceMetric):
    """One minus the cosine of the embeddings of an image and its reference.

    The embeddings are those of the ensemble of the ``dreamsim`` package (Fu et al. 2023), which
    consists of DINO, CLIP and OpenCLIP, each a ViT-B/16, with an adapter. Images are resized to 224
    x 224 pixels by bicubic interpolation regardless of their aspect ratio, as in the package. The
    package loads DINO through ``torch.hub``, which runs downloaded code; here DINO's published
    weights are loaded into the package's own network. The BudgetFusion paper gives the range [0,
    1], but cosines can be negative, so that distances up to 2 are possible.

    Raises:
        InputError: the weights or the device are unavailable.
    """

    name = "dreamsim"
    range = (0.0, 2.0)
    higher_is_better = False

    def __init__(self, context: MetricContext) -> None:
        self.device = device_of(context.device)
        folder = weights_folder(context, self.name, [*FILES, "ensemble_lora/*"])
        self._model = load_dreamsim(folder, self.device)
        self.version = f"1-{digest_of(self._model)}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3).

        The n references may have another size than the images.
        """
        parts = [slice(i, i + BATCH_SIZE) for i in range(0, len(images), BATCH_SIZE)]
        return np.concatenate([self._compare(images[part], references[part]) for part in parts])

    def _compare(self, images: np.ndarray, references: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            a, b = (
                self._model.embed(_pixels(part).to(self.device)).double()
                for part in (images, references)
            )
            distances = 1 - torch.nn.functional.cosine_similarity(a, b, dim=-1)
        return np.asarray(distances.cpu().numpy().clip(0, 2))


def _pixels(images: np.ndarray) -> Any:
    """Apply the preprocessing of the package: (n, 3, 224, 224) in [0, 1]."""
    import torch
    from torchvision.transforms import InterpolationMode, Resize
    from torchvision.transforms.functional import to_tensor

    resize = Resize((224, 224), interpolation=InterpolationMode.BICUBIC)
    return torch.stack([to_tensor(resize(Image.fromarray(image))) for image in images])


def load_dreamsim(folder: Path, device: str) -> Any:
    """Load the package's ``PerceptualModel`` and merge the adapter, without access to the internet.

    Raises:
        InputError: a file is missing, damaged or belongs to another model.
    """
    from pickle import UnpicklingError

    from dreamsim import PerceptualModel
    from dreamsim.config import dreamsim_args
    from peft import PeftModel

    where = f"params.yaml: label.weights.dreamsim: {folder}"
    adapters = [f"ensemble_lora/adapter_model.{suffix}" for suffix in ("safetensors", "bin")]
    missing = [file for file in FILES if not (folder / file).is_file()]
    if not any((folder / file).is_file() for file in adapters):
        missing.append(adapters[0])
    if missing:
        raise InputError(
            f"{where}: the file {missing[0]} is missing. Put it there; docs/metrics.md lists the"
            " files."
        )
    settings, dino = dreamsim_args["model_config"]["ensemble"], _load_dino(folder / DINO)
    try:
        with _replace_dino(dino):
            model = PerceptualModel(
                **settings, device=device, load_dir=str(folder), normalize_embeds=True
            )
        merged = PeftModel.from_pretrained(model, str(folder / "ensemble_lora")).merge_and_unload()
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, UnpicklingError) as error:
        raise InputError(
            f"{where} cannot be loaded ({error_summary(error)}). Download the files again."
        ) from error
    return merged.to(device).eval().requires_grad_(False)


@contextmanager
def _replace_dino(dino: Any) -> Iterator[None]:
    """Make the package use ``dino`` as its DINO ViT-B/16, instead of loading DINO by torch.hub."""
    from dreamsim.feature_extraction.extractor import ViTExtractor

    original = ViTExtractor.create_model
    ViTExtractor.create_model = staticmethod(
        lambda kind, folder: dino if kind == "dino_vitb16" else original(kind, folder)
    )
    try:
        yield
    finally:
        ViTExtractor.create_model = staticmethod(original)


def _load_dino(path: Path) -> Any:
    from dreamsim.feature_extraction.vision_transformer import vit_base

    model = vit_base(patch_size=16)
    load_state(model, path, DreamSim.name)
    return model

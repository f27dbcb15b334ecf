"""DreamSim, BudgetFusion 3.2 (equation 3): a learned distance that sees layout, pose and content
(Fu et al. 2023).
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
"""What the package reads of its ensemble, where it puts it: ``label.weights.dreamsim`` is its
``cache_dir`` after it has run once.
"""
BATCH = 32


class DreamSim(ReferenceMetric):
    """The published package's ensemble (DINO, CLIP and OpenCLIP, ViT-B/16, with its adapter): one
    less the cosine of centred embeddings.

    Images are brought to 224 x 224 pixels by bicubic interpolation, whatever their shape, as by the
    package. It would take DINO from ``torch.hub``, which runs code that it downloads; here the same
    network is the package's own, with DINO's published weights. The paper has the range [0, 1];
    cosines below 0 are possible, and so are distances up to 2.

    Raises:
        InputError: the weights or the device are not to be had.
    """

    name = "dreamsim"
    range = (0.0, 2.0)
    higher_is_better = False

    def __init__(self, context: MetricContext) -> None:
        self.device = device_of(context.device)
        self._model = load_dreamsim(
            weights_folder(context, self.name, [*FILES, "ensemble_lora/*"]), self.device
        )
        self.version = f"1-{digest_of(self._model)}"

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) and references, which may have another size, to float64 (n,); the
        prompts do not matter.
        """
        parts = range(0, len(images), BATCH)
        return np.concatenate(
            [self._compare(images[i : i + BATCH], references[i : i + BATCH]) for i in parts]
        )

    def _compare(self, images: np.ndarray, references: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            a, b = (
                self._model.embed(_pixels(part).to(self.device)).double()
                for part in (images, references)
            )
            found: np.ndarray = (
                (1 - torch.nn.functional.cosine_similarity(a, b, dim=-1)).cpu().numpy()
            )
        return found.clip(0, 2)


def _pixels(images: np.ndarray) -> Any:
    """The package's preprocessing: (n, 3, 224, 224) in [0, 1]."""
    import torch
    from torchvision.transforms import InterpolationMode, Resize
    from torchvision.transforms.functional import to_tensor

    resize = Resize((224, 224), interpolation=InterpolationMode.BICUBIC)
    return torch.stack([to_tensor(resize(Image.fromarray(image))) for image in images])


def load_dreamsim(folder: Path, device: str) -> Any:
    """The package's ``PerceptualModel`` of its ensemble, adapter merged, from a folder and without
    a network.

    Raises:
        InputError: files are missing, damaged or another model's.
    """
    from pickle import UnpicklingError

    from dreamsim import PerceptualModel
    from dreamsim.config import dreamsim_args
    from peft import PeftModel

    adapters = [f"ensemble_lora/adapter_model.{kind}" for kind in ("safetensors", "bin")]
    lacking = [file for file in FILES if not (folder / file).is_file()]
    if lacking or not any((folder / file).is_file() for file in adapters):
        raise InputError(
            f"params.yaml: label.weights.dreamsim: {folder} lacks {[*lacking, adapters[0]][0]}; see"
            " docs/metrics.md."
        )
    settings, dino = dreamsim_args["model_config"]["ensemble"], _dino(folder / DINO)
    try:
        with _taking(dino):
            model = PerceptualModel(
                **settings, device=device, load_dir=str(folder), normalize_embeds=True
            )
        merged = PeftModel.from_pretrained(model, str(folder / "ensemble_lora")).merge_and_unload()
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, UnpicklingError) as error:
        raise InputError(
            f"params.yaml: label.weights.dreamsim: {folder} cannot be loaded ({error_summary(error)})."
        ) from error
    return merged.to(device).eval().requires_grad_(False)


@contextmanager
def _taking(dino: Any) -> Iterator[None]:
    """While it lasts, the package takes this network for DINO's ViT-B/16 instead of asking
    ``torch.hub``.
    """
    from dreamsim.feature_extraction.extractor import ViTExtractor

    real = ViTExtractor.create_model
    ViTExtractor.create_model = staticmethod(
        lambda kind, folder: dino if kind == "dino_vitb16" else real(kind, folder)
    )
    try:
        yield
    finally:
        ViTExtractor.create_model = staticmethod(real)


def _dino(path: Path) -> Any:
    from dreamsim.feature_extraction.vision_transformer import vit_base

    model = vit_base(patch_size=16)
    load_state(model, path, DreamSim.name)
    return model

"""The CLIP of the embedded pool: open_clip's model and loss with 1.8 M parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from catimage_tiny.data import normalize_pixels
from catimage_tiny.tokenizer import CONTEXT
from catimage_tiny.training import LossFunction, mixed_precision

WIDTH = 128
MAX_LOGIT_SCALE = 4.0
"""Upper limit of the logarithm of the inverse temperature."""
CONFIG: dict[str, Any] = {
    "embed_dim": WIDTH,
    "vision_cfg": {
        "image_size": 64,
        "layers": 4,
        "width": 160,
        "head_width": 32,
        "patch_size": 8,
        "mlp_ratio": 3.0,
        "pool_type": "avg",
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": 0,
        "width": WIDTH,
        "heads": 4,
        "layers": 3,
    },
}
PREPROCESS: dict[str, Any] = {
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


def new_clip(vocabulary_size: int) -> Any:
    """Return an untrained open_clip model."""
    import open_clip

    text = {**CONFIG["text_cfg"], "vocab_size": vocabulary_size}
    return open_clip.CLIP(**{**CONFIG, "text_cfg": text})


def contrastive_loss(
    model: Any, images: torch.Tensor, token_ids: torch.Tensor, batch_size: int
) -> LossFunction:
    """Return CLIP's loss on random batches of scenes together with their neighbours.

    A neighbour differs from its scene in one attribute, so every batch has hard negatives.

    Args:
        model: From :func:`new_clip`.
        images: uint8 (n, 64, 64, 3), a scene and its neighbour in consecutive rows.
        token_ids: (n, context).
        batch_size: Even; half of it are scenes, half neighbours.
    """
    from open_clip import ClipLoss

    clip_loss, device, pairs = ClipLoss(), images.device, len(token_ids) // 2

    def loss() -> torch.Tensor:
        first = 2 * torch.randint(0, pairs, (batch_size // 2,), device=device)
        rows = torch.stack([first, first + 1], 1).flatten()
        with mixed_precision(device):
            image, text, scale = model(normalize_pixels(images[rows]), token_ids[rows])
        return clip_loss(image.float(), text.float(), scale.float())  # type: ignore[no-any-return]

    return loss


def clamp_logit_scale(model: Any) -> None:
    """Keep the logarithm of the inverse temperature between 0 and :data:`MAX_LOGIT_SCALE`."""
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def save_clip(model: torch.nn.Module, vocabulary_size: int, folder: Path) -> None:
    """Write configuration and fp16 weights in the layout that open_clip's ``local-dir:`` reads.

    The folder must have the tokenizer's files already
    (:func:`catimage_tiny.tokenizer.train_tokenizer`).
    """
    from safetensors.torch import save_file

    text = {
        **CONFIG["text_cfg"],
        "vocab_size": vocabulary_size,
        "hf_tokenizer_name": "catimage-tiny",  # any name: open_clip reads it from the folder
    }
    config = {"model_cfg": {**CONFIG, "text_cfg": text}, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {k: v.detach().half().contiguous().cpu() for k, v in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")

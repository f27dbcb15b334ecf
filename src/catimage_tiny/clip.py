"""The CLIP model of the embedded pool: open_clip's model class and loss, 1.8 M parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from catimage_tiny.data import normalize_pixels
from catimage_tiny.text_tokenizer import CONTEXT_LENGTH
from catimage_tiny.training import LossFunction, mixed_precision

TEXT_WIDTH = 128
"""Width of the text encoder's hidden states, and dimension of the embeddings."""
MAX_LOGIT_SCALE = 4.0
"""Upper limit of the logarithm of the inverse temperature."""
CONFIG: dict[str, Any] = {
    "embed_dim": TEXT_WIDTH,
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
        "context_length": CONTEXT_LENGTH,
        "vocab_size": 0,  # replaced by the size of the trained vocabulary
        "width": TEXT_WIDTH,
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
    """Return an untrained model.

    Args:
        vocabulary_size: Number of tokens of the text tokenizer.
    """
    import open_clip

    text_config = {**CONFIG["text_cfg"], "vocab_size": vocabulary_size}
    return open_clip.CLIP(**{**CONFIG, "text_cfg": text_config})


def contrastive_loss(
    model: Any, images: torch.Tensor, token_ids: torch.Tensor, batch_size: int
) -> LossFunction:
    """Return a loss function: the contrastive loss of CLIP on batches with hard negatives.

    A batch has pairs of a scene and a similar scene (:func:`catimage.scenes.grammar.neighbour`).

    Args:
        model: A model from :func:`new_clip`.
        images: uint8 (n, 64, 64, 3), the two scenes of a pair in consecutive rows.
        token_ids: Token ids of the captions, int64 (n, :data:`CONTEXT_LENGTH
            <catimage_tiny.text_tokenizer.CONTEXT_LENGTH>`).
        batch_size: Number of scenes per batch, twice the number of pairs.
    """
    from open_clip import ClipLoss

    clip_loss, device, pairs = ClipLoss(), images.device, len(token_ids) // 2

    def loss() -> torch.Tensor:
        first = 2 * torch.randint(0, pairs, (batch_size // 2,), device=device)
        rows = torch.stack([first, first + 1], 1).flatten()
        with mixed_precision(device):
            embeddings = model(normalize_pixels(images[rows]), token_ids[rows])
        image, text, logit_scale = (tensor.float() for tensor in embeddings)
        return clip_loss(image, text, logit_scale)  # type: ignore[no-any-return]

    return loss


def clamp_logit_scale(model: Any) -> None:
    """Keep the logarithm of the inverse temperature between 0 and :data:`MAX_LOGIT_SCALE`."""
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def save_clip(model: torch.nn.Module, vocabulary_size: int, folder: Path) -> None:
    """Write the configuration and the weights, in fp16, as open_clip's ``local-dir:`` reads them.

    Args:
        model: A trained model.
        vocabulary_size: Number of tokens of the text tokenizer.
        folder: The folder to write, which already has the files of the text tokenizer
            (:func:`catimage_tiny.text_tokenizer.train_text_tokenizer`).
    """
    from safetensors.torch import save_file

    text_config = {
        **CONFIG["text_cfg"],
        "vocab_size": vocabulary_size,
        "hf_tokenizer_name": "catimage-tiny",  # not used: the folder has a tokenizer
    }
    config = {"model_cfg": {**CONFIG, "text_cfg": text_config}, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {k: v.detach().half().contiguous().cpu() for k, v in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")

"""The model of ImageReward (Xu et al. 2023, arXiv 2304.05977), built on transformers' BLIP.

The official package does not work with current versions of transformers. This module maps the names
in the official checkpoint to those of transformers.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from catimage.errors import InputError, error_summary
from catimage.metrics.weights import read_state

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""The authors' mean and standard deviation of the head's output, which standardise the reward."""
HEAD_WIDTH = 64
"""Width of an attention head in BERT and in ViT up to size L; the shapes of a checkpoint determine
all other sizes."""
PARTS = ("blip.visual_encoder.", "blip.text_encoder.", "mlp.")
"""Prefixes of the tensors of a checkpoint that the model uses. BLIP's projections for contrastive
training are not used."""
RENAMED = {
    "visual_encoder.cls_token": "visual_encoder.embeddings.class_embedding",
    "visual_encoder.pos_embed": "visual_encoder.embeddings.position_embedding",
    "visual_encoder.patch_embed.proj.": "visual_encoder.embeddings.patch_embedding.",
    "visual_encoder.blocks.": "visual_encoder.encoder.layers.",
    "visual_encoder.norm.": "visual_encoder.post_layernorm.",
    ".norm1.": ".layer_norm1.",
    ".norm2.": ".layer_norm2.",
    ".attn.qkv.": ".self_attn.qkv.",
    ".attn.proj.": ".self_attn.projection.",
    "mlp.layers.": "mlp.",
    "blip.": "",
}
"""Parts of the official names of tensors, and the corresponding parts in :class:`RewardModel`."""


class RewardModel(nn.Module):
    """BLIP's image encoder, its text encoder with cross-attention, and a head on [CLS]."""

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig) -> None:
        super().__init__()
        self.visual_encoder = BlipVisionModel(vision)
        self.text_encoder = BlipTextModel(text, add_pooling_layer=False)
        self.mlp = nn.Sequential(
            nn.Linear(text.hidden_size, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return rewards, float32 (n,).

        Args:
            pixels: normalised pixels, (n, 3, h, w).
            ids: token ids, (n, length).
            mask: 0 for padding and 1 otherwise, (n, length).
        """
        image = self.visual_encoder(pixels).last_hidden_state
        text = self.text_encoder(
            ids, attention_mask=mask, encoder_hidden_states=image
        ).last_hidden_state
        rewards: torch.Tensor = (self.mlp(text[:, 0]).squeeze(1) - MEAN) / STD
        return rewards


def load_reward_model(path: Path, name: str) -> RewardModel:
    """Load an official checkpoint. The shapes of its tensors determine the sizes of the model.

    Args:
        path: the file of the checkpoint.
        name: the name of the metric, for error messages.

    Raises:
        InputError: the file cannot be read, or has the weights of another model.
    """
    state = rename_state(read_state(path, name))
    try:
        vision, text = model_configs(state)
        with torch.device("meta"):  # allocates no memory for initial weights
            model = RewardModel(vision, text)
        model.load_state_dict(state, assign=True)
    except (LookupError, ArithmeticError, RuntimeError, ValueError) as error:
        raise InputError(
            f"params.yaml: label.weights.{name}: {path} has the weights of another model"
            f" ({error_summary(error)}). Use the official ImageReward.pt."
        ) from error
    # This buffer is not in the checkpoint, so it is still on the meta device.
    positions = torch.arange(text.max_position_embeddings)[None]
    model.text_encoder.embeddings.position_ids = nn.Buffer(positions, persistent=False)
    return model.eval().requires_grad_(False)


def rename_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return an official state dict with the names of :class:`RewardModel`, in float32."""
    return {
        _rename(key): value.float()
        for key, value in state.items()
        if key.startswith(PARTS) and not key.endswith(".position_ids")
    }


def _rename(key: str) -> str:
    for official, new in RENAMED.items():
        key = key.replace(official, new)
    return key


def model_configs(state: dict[str, torch.Tensor]) -> tuple[BlipVisionConfig, BlipTextConfig]:
    """Return the configurations of the encoders that match the shapes of a state dict.

    Raises:
        KeyError: a tensor is missing.
    """
    patches = state["visual_encoder.embeddings.patch_embedding.weight"]
    positions = state["visual_encoder.embeddings.position_embedding"].shape[1] - 1
    vision = BlipVisionConfig(
        hidden_size=patches.shape[0],
        intermediate_size=state["visual_encoder.encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_layer_count(state, "visual_encoder.encoder.layers."),
        num_attention_heads=patches.shape[0] // HEAD_WIDTH,
        image_size=round(positions**0.5) * patches.shape[-1],
        patch_size=patches.shape[-1],
        layer_norm_eps=1e-6,
    )
    tokens = state["text_encoder.embeddings.word_embeddings.weight"]
    text = BlipTextConfig(
        vocab_size=tokens.shape[0],
        hidden_size=tokens.shape[1],
        encoder_hidden_size=patches.shape[0],
        intermediate_size=state["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_layer_count(state, "text_encoder.encoder.layer."),
        num_attention_heads=tokens.shape[1] // HEAD_WIDTH,
        max_position_embeddings=len(state["text_encoder.embeddings.position_embeddings.weight"]),
        layer_norm_eps=1e-12,
    )
    return vision, text


def _layer_count(state: dict[str, torch.Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})

"""ImageReward's model (Xu et al. 2023, arXiv 2304.05977) on transformers' BLIP: the official
checkpoint's keys put into it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from catimage.errors import InputError, error_summary
from catimage.metrics.weights import read_state

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""The authors' mean and standard deviation of the head's output; a reward is that output
standardised by them.
"""
HEAD = 64
"""Width of an attention head, in BERT and in ViT up to L: a checkpoint's shapes tell all but that.
"""
PARTS = ("blip.visual_encoder.", "blip.text_encoder.", "mlp.")
"""What of a checkpoint is used; BLIP's projections for contrastive training, which are in there
too, are not.
"""
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
"""Parts of the official names and what they are in :class:`RewardModel`; the text encoder's are the
same but for the first.
"""


class RewardModel(nn.Module):
    """BLIP's image encoder, its text encoder with cross-attention to the image, and on the state of
    [CLS] the head.
    """

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
        """Normalised pixels (n, 3, h, w), tokens (n, length) and which of them are not padding:
        rewards float32 (n,).
        """
        image = self.visual_encoder(pixels).last_hidden_state
        text = self.text_encoder(
            ids, attention_mask=mask, encoder_hidden_states=image
        ).last_hidden_state
        rewards: torch.Tensor = (self.mlp(text[:, 0]).squeeze(1) - MEAN) / STD
        return rewards


def load_reward_model(path: Path, name: str) -> RewardModel:
    """The frozen model of a checkpoint with the official names; its sizes are those of the tensors.

    Args:
        name: the metric, for errors.

    Raises:
        InputError: the file cannot be read, or holds the weights of another model.
    """
    state = renamed(read_state(path, name))
    try:
        vision, text = configurations(state)
        with torch.device("meta"):  # neither memory nor time for random weights
            model = RewardModel(vision, text)
        model.load_state_dict(state, assign=True)
    except (LookupError, ArithmeticError, RuntimeError, ValueError) as error:
        what = f"{path} holds the weights of another model ({error_summary(error)})"
        raise InputError(
            f"params.yaml: label.weights.{name}: {what}; take the official ImageReward.pt."
        ) from error
    places = torch.arange(text.max_position_embeddings)[None]
    model.text_encoder.embeddings.position_ids = nn.Buffer(
        places, persistent=False
    )  # no weight, so that it is on no device yet
    return model.eval().requires_grad_(False)


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An official state dict under the names of :class:`RewardModel`, in float32."""
    used = {
        key: value
        for key, value in state.items()
        if key.startswith(PARTS) and not key.endswith(".position_ids")
    }
    return {_name(key): value.float() for key, value in used.items()}


def _name(key: str) -> str:
    for official, ours in RENAMED.items():
        key = key.replace(official, ours)
    return key


def configurations(state: dict[str, torch.Tensor]) -> tuple[BlipVisionConfig, BlipTextConfig]:
    """Of the two encoders, read off the shapes of a state dict of :class:`RewardModel`.

    Raises:
        KeyError: a tensor that tells a size is missing.
    """
    patches = state["visual_encoder.embeddings.patch_embedding.weight"]
    positions = state["visual_encoder.embeddings.position_embedding"].shape[1] - 1
    vision = BlipVisionConfig(
        hidden_size=patches.shape[0],
        intermediate_size=state["visual_encoder.encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_layers(state, "visual_encoder.encoder.layers."),
        num_attention_heads=patches.shape[0] // HEAD,
        image_size=round(positions**0.5) * patches.shape[-1],
        patch_size=patches.shape[-1],
        layer_norm_eps=1e-6,
    )
    words = state["text_encoder.embeddings.word_embeddings.weight"]
    text = BlipTextConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        encoder_hidden_size=patches.shape[0],
        intermediate_size=state["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_layers(state, "text_encoder.encoder.layer."),
        num_attention_heads=words.shape[1] // HEAD,
        max_position_embeddings=state["text_encoder.embeddings.position_embeddings.weight"].shape[
            0
        ],
        layer_norm_eps=1e-12,
    )
    return vision, text


def _layers(state: dict[str, torch.Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})

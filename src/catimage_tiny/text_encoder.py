"""Conversion of the CLIP model's text encoder from open_clip to transformers, and its use.

The generators of the embedded pool use this text encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from catimage_tiny.clip import TEXT_WIDTH
from catimage_tiny.text_tokenizer import CONTEXT_LENGTH

_LAYER_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""Names of the modules of a layer: in open_clip (keys) and in transformers (values)."""


def text_encoder_from(clip_folder: Path) -> tuple[Any, Any]:
    """Return the text encoder and the text tokenizer of a CLIP model.

    Args:
        clip_folder: The folder of the model (:func:`catimage_tiny.clip.save_clip`).

    Returns:
        A ``CLIPTextModel`` and a ``CLIPTokenizer`` of transformers, the classes that a Stable
        Diffusion pipeline requires.
    """
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    weights = load_file(clip_folder / "open_clip_model.safetensors")
    blocks = "transformer.resblocks."
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith(blocks))
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        hidden_act="gelu",
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: Any = CLIPTextModel(config)
    model.eval()
    prefix = "text_model." if any(k.startswith("text_model.") for k in model.state_dict()) else ""
    state = _transformers_state({k: v.float() for k, v in weights.items()}, layers)
    model.load_state_dict({prefix + k: v.contiguous() for k, v in state.items()}, strict=True)
    return model, tokenizer


def _transformers_state(weights: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Convert the weights of the text encoder from open_clip to transformers.

    The names of the weights differ, and open_clip stores the projections of queries, keys and
    values as one matrix.
    """
    state = {
        "embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "embeddings.position_embedding.weight": weights["positional_embedding"],
        "final_layer_norm.weight": weights["ln_final.weight"],
        "final_layer_norm.bias": weights["ln_final.bias"],
    }
    for i in range(layers):
        old, new = f"transformer.resblocks.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            for old_name, new_name in _LAYER_NAMES.items():
                state[f"{new}{new_name}.{kind}"] = weights[f"{old}{old_name}.{kind}"]
            projections = weights[f"{old}attn.in_proj_{kind}"].chunk(3)
            for letter, projection in zip("qkv", projections, strict=True):
                state[f"{new}self_attn.{letter}_proj.{kind}"] = projection
    return state


@torch.no_grad()
def encode_captions(
    model: Any, tokenizer: Any, captions: list[str], batch_size: int = 2048
) -> torch.Tensor:
    """Return the last hidden states of captions, fp16 (n, tokens, width), on the model's device.

    Args:
        model: A text encoder from :func:`text_encoder_from`.
        tokenizer: The text tokenizer of the model.
        captions: The n captions.
        batch_size: Number of captions per forward pass.
    """
    ids = tokenizer(
        captions,
        padding="max_length",
        max_length=CONTEXT_LENGTH,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    batches = ids.to(model.device).split(batch_size)
    return torch.cat([model(token_batch).last_hidden_state.half() for token_batch in batches])

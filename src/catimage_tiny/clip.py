"""The CLIP of the tiny pool: open_clip's own model and loss at 2 M parameters, trained on rendered
scenes.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catimage_tiny.schedule import cosine_rate
from catimage_tiny.tokenizer import CONTEXT, train_tokenizer

WIDTH = 128
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


def new_clip(vocabulary: int) -> Any:
    """An untrained open_clip model."""
    import open_clip

    return open_clip.CLIP(
        **{**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": vocabulary}}
    )


def train_clip(
    images: np.ndarray,
    captions: list[str],
    out: Path,
    steps: int,
    batch: int = 192,
    rate: float = 2e-3,
    device: str = "cpu",
    start: Path | None = None,
) -> None:
    """Trains on scenes and their neighbours (rows 2k and 2k + 1 together in a batch, as hard
    negatives); writes ``out``.

    ``out`` is a folder that ``open_clip.create_model("local-dir:...")`` loads: configuration,
    safetensors and tokenizer; ``start`` is one to go on from, whose tokenizer stays.
    """
    from open_clip import ClipLoss
    from safetensors.torch import load_file
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    if start is None:
        train_tokenizer(out)
    else:
        shutil.copytree(start, out, dirs_exist_ok=True)
    tokenizer = CLIPTokenizer.from_pretrained(out)
    tokens = tokenizer(
        captions, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    ).input_ids
    model: Any = new_clip(len(tokenizer)).to(device)
    if start is not None:
        model.load_state_dict(load_file(start / "open_clip_model.safetensors"))
    no_decay = [p for p in model.parameters() if p.ndim < 2]
    decay = [p for p in model.parameters() if p.ndim >= 2]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
    )
    loss_of, began = ClipLoss(), time.time()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = cosine_rate(step, steps, rate)
        rows = np.sort(rng.choice(len(captions) // 2, batch // 2, replace=False))
        rows = np.stack([2 * rows, 2 * rows + 1], 1).ravel()
        x = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            image, text, scale = model(x, tokens[rows].to(device))
        loss = loss_of(image.float(), text.float(), scale.float())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.0)
        if step % 25 == 24 or step == steps - 1:
            right = (
                (image.float() @ text.float().T)
                .argmax(1)
                .eq(torch.arange(batch, device=device))
                .float()
                .mean()
            )
            print(
                f"clip {step + 1}/{steps} loss {loss.item():.3f} retrieval {right:.3f}"
                f" {time.time() - began:.0f} s",
                flush=True,
            )
            save_clip(model, len(tokenizer), out)


def save_clip(model: torch.nn.Module, vocabulary: int, out: Path) -> None:
    """Writes open_clip's local-dir layout; weights in fp16, as the pool's size is what a clone
    downloads.
    """
    from safetensors.torch import save_file

    text = {
        **CONFIG["text_cfg"],
        "vocab_size": vocabulary,
        "hf_tokenizer_name": "catimage-tiny",
    }  # any name: open_clip reads it from ``out``
    config = {"model_cfg": {**CONFIG, "text_cfg": text}, "preprocess_cfg": PREPROCESS}
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(
        {k: v.detach().half().contiguous().cpu() for k, v in model.state_dict().items()},
        out / "open_clip_model.safetensors",
    )

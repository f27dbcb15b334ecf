"""A miniature pool: a pipeline and a CLIP model with random weights.

They have the architectures of the embedded pool.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
import yaml

from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import PROMPTS, write_table
from catimage.params import Params, parse_params
from catimage.workspace import Workspace

STEPS = (1, 2, 4)
"""Numbers of steps of the candidates."""


def save_clip_folder(folder: Path) -> Path:
    """Save an untrained open_clip model and its tokenizer, and return the folder."""
    from transformers import CLIPTokenizer

    from catimage_tiny.clip import new_clip, save_clip
    from catimage_tiny.text_tokenizer import train_text_tokenizer

    torch.manual_seed(1)
    train_text_tokenizer(folder, captions=200)
    vocabulary_size = len(CLIPTokenizer.from_pretrained(folder))
    save_clip(new_clip(vocabulary_size), vocabulary_size, folder)
    return folder


def save_pipeline(folder: Path, clip: Path) -> Path:
    """Save an untrained Stable Diffusion pipeline in diffusers' format; return the folder.

    Args:
        folder: the folder to write.
        clip: the folder of the CLIP model whose text encoder the pipeline uses, from
            :func:`save_clip_folder`.
    """
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    from catimage_tiny.autoencoder import new_autoencoder
    from catimage_tiny.denoiser import new_denoiser
    from catimage_tiny.noise import SCHEDULER_CONFIG
    from catimage_tiny.text_encoder import text_encoder_from

    text_encoder, tokenizer = text_encoder_from(clip)
    torch.manual_seed(2)
    pipeline = StableDiffusionPipeline(
        vae=new_autoencoder(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=new_denoiser(),
        scheduler=EulerDiscreteScheduler.from_config(SCHEDULER_CONFIG),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def pool_tree(weights: str, steps: tuple[int, ...] = STEPS) -> dict[str, object]:
    """Return the content of the miniature pool's YAML file.

    Args:
        weights: the folder of the pipeline, relative to the file.
        steps: the number of steps of each candidate.
    """
    generator = {
        "kind": "diffusers",
        "pipeline": "StableDiffusionPipeline",
        "weights": weights,
        "scheduler": "EulerDiscreteScheduler",
        "guidance": 3.0,
        "size": 64,
    }
    return {
        "name": "miniature",
        "generators": {"mini": generator},
        "candidates": [{"candidate": f"mini-{n}", "generator": "mini", "steps": n} for n in steps],
    }


def save_pool(folder: Path) -> Path:
    """Save the miniature pool, and return the path of its YAML file.

    The pipeline is in the subfolder ``sd``, and the CLIP model in the subfolder ``clip``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_pipeline(folder / "sd", save_clip_folder(folder / "clip"))
    (folder / "miniature.yaml").write_text(yaml.safe_dump(pool_tree("sd"), sort_keys=False))
    return folder / "miniature.yaml"


def workspace_of(
    root: Path, pool: Path, prompts: list[str], **sections: object
) -> tuple[Workspace, Params]:
    """Create a workspace with a prompts table, and return the workspace and parameters for it.

    Args:
        root: the folder of the workspace.
        pool: the YAML file of a pool, whose folder contains a CLIP model in ``clip``.
        prompts: the texts of the prompts, all of the split ``train``.
        sections: sections that are added to the parameters or replace the default sections.
    """
    workspace = Workspace(root)
    rows = [(prompt_id(p), p, "test", "train") for p in prompts]
    write_table(pd.DataFrame(rows, columns=PROMPTS.names), workspace.prompts, PROMPTS)
    encoder = {"model": f"local-dir:{pool.parent / 'clip'}"}
    tree = {
        "pool": str(pool),
        "encoder": encoder,
        "generate": {"seeds": [0, 1], "batch_size": 3, "shard_images": 4},
        **sections,
    }
    return workspace, parse_params(tree, "params.yaml")

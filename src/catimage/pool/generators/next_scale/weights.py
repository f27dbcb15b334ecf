"""Files of a next-scale generator: its configuration, weights and text encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from catimage.common.hashing import folder_digest
from catimage.common.schema_errors import first_problem
from catimage.errors import error_summary
from catimage.pool.generators.next_scale.model import NextScaleArchitecture, NextScaleModel
from catimage.pool.generators.next_scale.spec import NextScaleSpec
from catimage.pool.spec import Candidate

CONFIG, MODEL = "config.json", "model.safetensors"
TEXT_PARTS = ("text_encoder", "tokenizer")
"""Subfolders of the text encoder and of its tokenizer."""
_SUFFIXES = (".json", ".safetensors", ".txt")


def save_model(model: NextScaleModel, folder: Path) -> None:
    """Write the configuration, and the weights in float16."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    architecture = model.architecture.model_dump(mode="json")
    (folder / CONFIG).write_text(json.dumps(architecture, indent=2) + "\n")
    weights = {k: v.detach().half().contiguous().cpu() for k, v in model.state_dict().items()}
    save_file(weights, folder / MODEL)


def load_model(spec: NextScaleSpec, folder: Path) -> NextScaleModel:
    """Load the model in float32 on the CPU.

    Raises:
        InputError: a file is missing or invalid.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_files(spec, folder)
    model, file = NextScaleModel(read_architecture(spec, folder)), folder / spec.weights / MODEL
    try:
        model.load_state_dict({k: v.float() for k, v in load_file(file).items()})
    except (SafetensorError, RuntimeError) as error:
        raise spec.error(
            "weights",
            f"{file} does not match its {CONFIG} ({error_summary(error)}). Copy both files from"
            " the same model.",
        ) from error
    return model.eval()


def read_architecture(spec: NextScaleSpec, folder: Path) -> NextScaleArchitecture:
    """Read the model's architecture from its ``config.json``.

    Raises:
        InputError: the file is missing or invalid, or the model's images do not have the size
            ``size``.
    """
    file = folder / spec.weights / CONFIG
    if not file.is_file():
        raise spec.error(
            "weights", f"{file} not found. Set 'weights' to the folder of a next-scale model."
        )
    try:
        shape = NextScaleArchitecture.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        message = f"{file}: {key}: {first_problem(error)}. Correct the file."
        raise spec.error("weights", message) from error
    if shape.size != spec.size:
        raise spec.error(
            "size",
            f"the model in {file.parent} generates images of {shape.size} pixels, not"
            f" {spec.size}. Set 'size' to {shape.size}.",
        )
    return shape


def check_files(spec: NextScaleSpec, folder: Path) -> None:
    """Check that all files exist, and that the configuration is valid.

    Raises:
        InputError: a file is missing or invalid.
    """
    read_architecture(spec, folder)
    text_folder(spec, folder)
    file = folder / spec.weights / MODEL
    if not file.is_file():
        raise spec.error(
            "weights",
            f"{file} not found. Copy it there, or train it with 'python -m catimage_tiny'.",
        )


def check_steps(spec: NextScaleSpec, candidate: Candidate, shape: NextScaleArchitecture) -> None:
    """Check that the model has at least as many scales as a candidate has steps.

    Raises:
        InputError: the model has fewer scales.
    """
    scales = len(shape.scales)
    if candidate.steps > scales:
        raise spec.error(
            "weights",
            f"candidate {candidate.candidate!r} has {candidate.steps} steps, but the model has"
            f" {scales} scales. Set 'steps' to 1 to {scales}.",
        )


def text_folder(spec: NextScaleSpec, folder: Path) -> Path:
    """Return the folder that contains the text encoder and its tokenizer.

    Raises:
        InputError: the text encoder or the tokenizer is missing.
    """
    for part in TEXT_PARTS:
        path = folder / spec.text / part
        if not path.is_dir():
            raise spec.error(
                "text",
                f"folder {path} not found. Set 'text' to the folder of a pipeline that has the"
                f" subfolder {part!r}.",
            )
    return folder / spec.text


def load_text(spec: NextScaleSpec, folder: Path, shape: NextScaleArchitecture) -> tuple[Any, Any]:
    """Load the text encoder and its tokenizer.

    The text encoder is loaded in float32 on the CPU, from safetensors files only.

    Raises:
        InputError: a file is missing or invalid, or the encoder does not have the number of
            channels that the model requires.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    path = text_folder(spec, folder)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer")
        text_encoder: Any = CLIPTextModel.from_pretrained(
            path / "text_encoder", use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise spec.error(
            "text",
            f"cannot load the text encoder in {path} ({error_summary(error)}). Replace its files.",
        ) from error
    check_text_width(spec, text_encoder.config.hidden_size, shape)
    return text_encoder.eval(), tokenizer


def check_text_width(spec: NextScaleSpec, width: int, shape: NextScaleArchitecture) -> None:
    """Check that the text encoder has the number of channels that the model requires.

    Raises:
        InputError: the numbers differ.
    """
    if width != shape.text_width:
        raise spec.error(
            "text",
            f"the text encoder has {width} channels, but the model requires {shape.text_width}. Use"
            " the text encoder that the model was trained with.",
        )


def identity(spec: NextScaleSpec, folder: Path) -> dict[str, Any]:
    """Return the digests of the weights, the text encoder and its tokenizer.

    Raises:
        InputError: a file is missing or invalid.
    """
    check_files(spec, folder)
    text = text_folder(spec, folder)
    return {
        "weights": folder_digest(folder / spec.weights, _SUFFIXES),
        **{part: folder_digest(text / part, _SUFFIXES) for part in TEXT_PARTS},
    }

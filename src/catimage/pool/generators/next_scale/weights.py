"""Reading and writing the folder of a next-scale model, and the text encoder beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from catimage.common.hashing import folder_digest
from catimage.pool.generators.next_scale.model import Architecture, NextScaleModel
from catimage.pool.generators.next_scale.spec import NextScaleSpec
from catimage.pool.spec import Candidate

CONFIG, MODEL = "config.json", "model.safetensors"
TEXT_PARTS = ("text_encoder", "tokenizer")
_ENDINGS = (".json", ".safetensors", ".txt")


def save_model(model: NextScaleModel, folder: Path) -> None:
    """Writes configuration and weights, these in fp16."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(
        json.dumps(model.architecture.model_dump(mode="json"), indent=2) + "\n"
    )
    save_file(
        {k: v.detach().half().contiguous().cpu() for k, v in model.state_dict().items()},
        folder / MODEL,
    )


def load_model(spec: NextScaleSpec, folder: Path) -> NextScaleModel:
    """The model in fp32 on the CPU, ready to sample.

    Raises:
        InputError: a file is missing or is not what it should be.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_files(spec, folder)
    model, file = (
        NextScaleModel(read_architecture(spec, folder)).eval(),
        folder / spec.weights / MODEL,
    )
    try:
        model.load_state_dict({k: v.float() for k, v in load_file(file).items()})
    except (SafetensorError, RuntimeError) as error:
        raise spec.error(
            "weights", f"{file} does not hold the model of its {CONFIG}: {_one_line(error)}."
        ) from error
    return model


def read_architecture(spec: NextScaleSpec, folder: Path) -> Architecture:
    """The model's shape, from its ``config.json``.

    Raises:
        InputError: the file is missing, is not what it should be, or makes images of another size.
    """
    file = folder / spec.weights / CONFIG
    if not file.is_file():
        raise spec.error(
            "weights", f"there is no file {file}; name the folder of a next-scale model."
        )
    try:
        shape = Architecture.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise spec.error(
            "weights", f"{file}: {key}: {first['msg'][0].lower() + first['msg'][1:]}."
        ) from error
    if shape.size != spec.size:
        raise spec.error(
            "size",
            f"the model in {file.parent} makes images of {shape.size} pixels, not {spec.size};"
            f" write {shape.size}.",
        )
    return shape


def check_files(spec: NextScaleSpec, folder: Path) -> None:
    """Looks for all files that a run needs.

    Raises:
        InputError: one is not there, or the configuration is not what it should be.
    """
    read_architecture(spec, folder)
    text_folder(spec, folder)
    file = folder / spec.weights / MODEL
    if not file.is_file():
        raise spec.error(
            "weights",
            f"there is no file {file}; train it with 'python -m catimage_tiny', or put it there.",
        )


def check_steps(spec: NextScaleSpec, candidate: Candidate, shape: Architecture) -> None:
    """Looks at how many scales a candidate wants.

    Raises:
        InputError: more than the model has.
    """
    most = len(shape.scales)
    if candidate.steps > most:
        told = (
            f"the candidate {candidate.candidate!r} has {candidate.steps} steps, but the model has"
            f" {most} scales; write 1 to {most}."
        )
        raise spec.error("weights", told)


def text_folder(spec: NextScaleSpec, folder: Path) -> Path:
    """The folder of text encoder and tokenizer.

    Raises:
        InputError: one of the two is not in it.
    """
    for part in TEXT_PARTS:
        if not (folder / spec.text / part).is_dir():
            raise spec.error(
                "text",
                f"there is no folder {folder / spec.text / part}; name the folder of a pipeline"
                " that has one.",
            )
    return folder / spec.text


def load_text(spec: NextScaleSpec, folder: Path, shape: Architecture) -> tuple[Any, Any]:
    """Text encoder, in fp32 on the CPU from safetensors alone, and tokenizer.

    Raises:
        InputError: they are not there, cannot be read, or are of another width than the model
            reads.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    path = text_folder(spec, folder)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer")
        text: Any = CLIPTextModel.from_pretrained(
            path / "text_encoder", use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise spec.error(
            "text", f"cannot load the text encoder of {path}: {_one_line(error)}."
        ) from error
    check_text_width(spec, text.config.hidden_size, shape)
    return text.eval(), tokenizer


def check_text_width(spec: NextScaleSpec, width: int, shape: Architecture) -> None:
    """Looks at the channels of the text encoder.

    Raises:
        InputError: they are not those that the model reads.
    """
    if width != shape.text_width:
        told = (
            f"its text encoder has {width} channels, but the model reads {shape.text_width}; name"
            " the one that it was trained with."
        )
        raise spec.error("text", told)


def identity(spec: NextScaleSpec, folder: Path) -> dict[str, Any]:
    """What identifies weights, text encoder and tokenizer in plans: their content.

    Raises:
        InputError: one is not there.
    """
    check_files(spec, folder)
    text = text_folder(spec, folder)
    return {
        "weights": folder_digest(folder / spec.weights, _ENDINGS),
        **{p: folder_digest(text / p, _ENDINGS) for p in TEXT_PARTS},
    }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")

"""Counts the TFLOPs and the memory of a next-scale generator from its configuration files.

The models run on torch's meta device, without weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from catimage.errors import InputError
from catimage.pool.flops import tflops
from catimage.pool.generators.next_scale.model import NextScaleModel, Sampling, sample
from catimage.pool.generators.next_scale.spec import NextScaleSpec
from catimage.pool.generators.next_scale.weights import (
    check_files,
    check_steps,
    check_text_width,
    identity,
    read_architecture,
    text_folder,
)
from catimage.pool.kind import Convention, CostTerms, GeneratorFacts
from catimage.pool.spec import Candidate


def count_costs(
    spec: NextScaleSpec, folder: Path, candidates: list[Candidate], convention: Convention
) -> list[CostTerms]:
    """Count the TFLOPs of one image of each candidate.

    The term ``denoiser`` is the transformer on the candidate's scales, with cached keys and values.
    Guidance doubles this term and the term ``text_encoder``. The convention ``paper`` counts only
    the projections of the transformer, without the text encoder and the decoder.

    Args:
        spec: the generator's settings in the pool file.
        folder: the folder of the pool file.
        candidates: candidates of the generator.
        convention: the operations that are counted.

    Raises:
        InputError: the configuration files are not found, or a candidate has more steps than the
            model has scales.
    """
    model, text_encoder = _models(spec, folder)
    with torch.device("meta"), torch.inference_mode():
        return [_terms(spec, c, model, text_encoder, convention) for c in candidates]


def _models(spec: NextScaleSpec, folder: Path) -> tuple[NextScaleModel, Any]:
    """Return the model and the text encoder on the meta device."""
    from transformers import CLIPTextConfig, CLIPTextModel

    shape = read_architecture(spec, folder)
    config = CLIPTextConfig.from_pretrained(text_folder(spec, folder) / "text_encoder")
    check_text_width(spec, config.hidden_size, shape)
    with torch.device("meta"):
        text_encoder: Any = CLIPTextModel(config)
        return NextScaleModel(shape).eval(), text_encoder.eval()


def _terms(
    spec: NextScaleSpec,
    candidate: Candidate,
    model: NextScaleModel,
    text_encoder: Any,
    convention: Convention,
) -> CostTerms:
    """Count the cost of one image, with both models on the meta device."""
    shape, passes = model.architecture, 2 if spec.with_settings_of(candidate).guidance > 1 else 1
    check_steps(spec, candidate, shape)
    context = text_encoder.config.max_position_embeddings
    transformer = tflops(
        sample,
        model.transformer,
        shape.scales,
        torch.empty(1, context, shape.text_width),
        torch.empty(1, shape.tokens(candidate.steps), shape.bits),
        Sampling(candidate.steps, 1.0, 1.0),
        convention=convention,
    )
    text = decoder = 0.0
    if convention == "full":
        side = shape.scales[-1]
        text = tflops(text_encoder, torch.zeros(1, context, dtype=torch.long))
        decoder = tflops(model.decoder, torch.empty(1, shape.bits, side, side))
    return CostTerms(
        denoiser=passes * transformer,
        text_encoder=passes * text,
        decoder=decoder,
        denoiser_calls=candidate.steps,
        passes=passes,
    )


def generator_facts(spec: NextScaleSpec, folder: Path) -> GeneratorFacts:
    """Return the digest of the weights, and the memory of the models in float32 in bytes.

    The memory is that of the weights and of the largest activations of one image: the keys and
    values of both passes over all scales, or the input and output of the decoder's finest
    convolution. If a file is missing or invalid, ``missing`` is the error message.
    """
    try:
        check_files(spec, folder)
        revision = identity(spec, folder)["weights"][:12]
    except InputError as error:
        return GeneratorFacts("", None, None, str(error))
    model, text_encoder = _models(spec, folder)
    shape = model.architecture
    weights = 4 * sum(p.numel() for part in (model, text_encoder) for p in part.parameters())
    keys_values = 2 * 2 * shape.layers * shape.tokens(len(shape.scales)) * shape.width
    finest = 2 * shape.decoder_widths[2] * (shape.size // 2) ** 2
    return GeneratorFacts(revision, weights, weights + 4 * max(keys_values, finest), "")

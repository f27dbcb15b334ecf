"""TFLOPs and memory of a next-scale generator, counted from its configuration on torch's meta
device: no weights needed.
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
    """TFLOPs of one image of each candidate.

    ``denoiser`` is the transformer over the candidate's scales, with cached keys and values,
    doubled by guidance; with the ``paper`` convention its projections alone, without text encoder
    and decoder.

    Raises:
        InputError: configuration files are not to be had, or a candidate wants more scales than the
            model has.
    """
    model, text = _models(spec, folder)
    with torch.device("meta"), torch.inference_mode():
        return [_terms(spec, candidate, model, text, convention) for candidate in candidates]


def _models(spec: NextScaleSpec, folder: Path) -> tuple[NextScaleModel, Any]:
    """Model and text encoder, without weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    shape = read_architecture(spec, folder)
    config = CLIPTextConfig.from_pretrained(text_folder(spec, folder) / "text_encoder")
    check_text_width(spec, config.hidden_size, shape)
    with torch.device("meta"):
        text: Any = CLIPTextModel(config)
        return NextScaleModel(shape).eval(), text.eval()


def _terms(
    spec: NextScaleSpec,
    candidate: Candidate,
    model: NextScaleModel,
    text: Any,
    convention: Convention,
) -> CostTerms:
    full, shape = convention == "full", model.architecture
    check_steps(spec, candidate, shape)
    passes = 2 if spec.with_settings_of(candidate).guidance > 1 else 1
    context = text.config.max_position_embeddings
    drawn = torch.empty(1, shape.tokens(candidate.steps), shape.bits)
    inputs = (
        model.transformer,
        shape.scales,
        torch.empty(1, context, shape.text_width),
        drawn,
        Sampling(candidate.steps, 1.0, 1.0),
    )
    return CostTerms(
        denoiser=passes * tflops(sample, *inputs, convention=convention),
        text_encoder=(
            passes * tflops(text, torch.zeros(1, context, dtype=torch.long)) if full else 0.0
        ),
        decoder=(
            tflops(model.decoder, torch.empty(1, shape.bits, shape.scales[-1], shape.scales[-1]))
            if full
            else 0.0
        ),
        denoiser_calls=candidate.steps,
        passes=passes,
    )


def generator_facts(spec: NextScaleSpec, folder: Path) -> GeneratorFacts:
    """Revision (of the content, where all files are there), and bytes in fp32: of the weights, and
    with the largest activations.

    The largest activations of one image are the keys and values of both passes over all scales, or
    input and output of the decoder's finest convolution.
    """
    try:
        check_files(spec, folder)
        revision = identity(spec, folder)["weights"][:12]
    except InputError as error:
        return GeneratorFacts("", None, None, str(error))
    model, text = _models(spec, folder)
    shape = model.architecture
    weights = 4 * sum(p.numel() for part in (model, text) for p in part.parameters())
    cache = 2 * 2 * shape.layers * shape.tokens(len(shape.scales)) * shape.width
    finest = 2 * shape.decoder_widths[2] * (shape.size // 2) ** 2
    return GeneratorFacts(revision, weights, weights + 4 * max(cache, finest), "")

"""TFLOPs of a diffusion generator's candidates, counted in a dry run of its pipeline: no weights
and no download needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from catimage.pool.generators.diffusion.caching import DEEPCACHE, caching
from catimage.pool.generators.diffusion.dry import (
    DECODER,
    DENOISERS,
    PROMPT,
    Dry,
    Work,
    dry_pipeline,
)
from catimage.pool.generators.diffusion.sampling import guidance_arguments, scheduler_of
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.kind import Convention, CostTerms
from catimage.pool.spec import Candidate


def count_costs(
    spec: DiffusersSpec, folder: Path, candidates: list[Candidate], convention: Convention
) -> list[CostTerms]:
    """TFLOPs of one image of each candidate.

    The pipeline's own call is run for every candidate, with models that have shapes alone: calls of
    the denoiser, passes of guidance, text encoders and lengths of contexts are what the pipeline
    makes of them. DeepCache is counted by what its steps compute. The caching methods of
    transformers are counted as if nothing were saved, which is an upper bound: what they save
    depends on the image (first-block, sea), or is known only step by step.

    Raises:
        InputError: configuration files are not to be had, or the pipeline cannot be run dry.
    """
    dry = dry_pipeline(spec, folder)
    return [_terms(spec.with_settings_of(c), c.steps, dry, convention) for c in candidates]


def _terms(spec: DiffusersSpec, steps: int, dry: Dry, convention: Convention) -> CostTerms:
    full = convention == "full"
    work = run_dry(spec, steps, dry, decoded=full)
    calls = len(dry.pipeline.scheduler.timesteps)
    denoiser = [w for part, w in work if part in DENOISERS]
    if not denoiser:
        raise spec.error(
            "pipeline",
            f"cannot count the TFLOPs of {spec.pipeline}, which has no {' or '.join(DENOISERS)};"
            " give a cost.",
        )
    if spec.cache and spec.cache.method == DEEPCACHE:
        denoiser = _deepcached(spec, denoiser, dry)
    return CostTerms(
        denoiser=sum(_tflops(w, convention) for w in denoiser),
        text_encoder=(
            sum(_tflops(w, convention) for part, w in work if part not in (*DENOISERS, DECODER))
            if full
            else 0.0
        ),
        decoder=sum(_tflops(w, convention) for part, w in work if part == DECODER),
        denoiser_calls=calls,
        passes=round(sum(w.rows for w in denoiser) / calls),
    )


def _tflops(work: Work, convention: Convention) -> float:
    return work.projections + (work.products if convention == "full" else 0.0)


def run_dry(
    spec: DiffusersSpec, steps: int, dry: Dry, decoded: bool = True
) -> list[tuple[str, Work]]:
    """Makes one image (or its latents) of a number of steps: the work of every call of a model, in
    order, with the name of the part.

    Raises:
        InputError: the pipeline cannot be run dry.
    """
    arguments: dict[str, Any] = {
        "height": spec.size,
        "width": spec.size,
        "num_inference_steps": steps,
        "output_type": "np" if decoded else "latent",
    }
    arguments |= guidance_arguments(spec, type(dry.pipeline)) | (
        {"negative_prompt": ""} if spec.guidance_kind == "true-cfg" else {}
    )
    dry.pipeline.scheduler = scheduler_of(spec, dry.scheduler)
    dry.meter.calls.clear()
    try:
        dry.pipeline(prompt=PROMPT, generator=torch.Generator(), **arguments, **spec.call)
    except Exception as error:  # whatever a pipeline of diffusers stumbles over
        why = f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
        raise spec.error(
            "pipeline",
            f"cannot count the TFLOPs of {spec.pipeline} ({why}); give its candidates a cost.",
        ) from error
    return list(dry.meter.calls)


def _deepcached(spec: DiffusersSpec, full: list[Work], dry: Dry) -> list[Work]:
    """Calls 0, N, 2N... are full, those between as the second call of a run with the cache."""
    assert spec.cache is not None
    interval = spec.cache.options.get("interval", 3)
    if interval == 1:
        return full
    dry.meter.cache = DEEPCACHE
    try:
        with caching(spec, dry.pipeline, 2):
            shallow = [w for part, w in run_dry(spec, 2, dry, decoded=False) if part in DENOISERS][
                1
            ]
    finally:
        dry.meter.cache = ""
    return [work if call % interval == 0 else shallow for call, work in enumerate(full)]

"""Counts the TFLOPs of diffusion generators by running their pipelines without weights.

The pipeline's own code runs with models on torch's meta device, whose tensors have shapes and no
values. The counts therefore include the calls of the denoiser, the passes of guidance, the text
encoders and the lengths of their contexts exactly as in a real run.
"""

from __future__ import annotations

from pathlib import Path

from catimage.pool.generators.diffusion.caching import DEEPCACHE, caching, deepcache_interval
from catimage.pool.generators.diffusion.meta_pipeline import MetaPipeline, meta_pipeline
from catimage.pool.generators.diffusion.meta_run import check_run, run_pipeline
from catimage.pool.generators.diffusion.meter import DECODER, DENOISERS, CallCost
from catimage.pool.generators.diffusion.settings import check_candidate
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.kind import Convention, CostTerms
from catimage.pool.spec import Candidate


def count_costs(
    spec: DiffusersSpec, folder: Path, candidates: list[Candidate], convention: Convention
) -> list[CostTerms]:
    """Count the TFLOPs of one image of each candidate.

    With DeepCache, the operations of each step are counted. With a caching method for transformers,
    the count is that of the generator without the method, which is an upper bound: the savings
    depend on the image (first-block, sea) or differ between steps.

    Args:
        spec: the generator's settings in the pool file.
        folder: the folder of the pool file.
        candidates: candidates of the generator.
        convention: the operations that are counted.

    Raises:
        InputError: configuration files are unavailable, settings of a candidate are invalid, or
            the pipeline cannot run on meta tensors.
    """
    check_candidates(spec, folder, candidates)
    meta = meta_pipeline(spec, folder)
    return [_terms(spec.with_settings_of(c), c.steps, meta, convention) for c in candidates]


def check_candidates(spec: DiffusersSpec, folder: Path, candidates: list[Candidate]) -> None:
    """Check the settings of candidates, from the configuration files of the model.

    Raises:
        InputError: configuration files are unavailable, or settings are invalid.
    """
    meta = meta_pipeline(spec, folder)
    for candidate in candidates:
        changed = spec.with_settings_of(candidate)
        check_candidate(changed, candidate, meta.classes)
        if candidate.cost is not None:  # the other candidates run when their costs are counted
            check_run(changed, candidate.steps, meta)


def _terms(
    spec: DiffusersSpec, steps: int, meta: MetaPipeline, convention: Convention
) -> CostTerms:
    """Count the cost of one image; ``spec`` has the settings of the candidate."""
    full = convention == "full"
    costs = run_pipeline(spec, steps, meta, decode=full)
    calls = len(meta.pipeline.scheduler.timesteps)
    denoiser = [cost for part, cost in costs if part in DENOISERS]
    if not denoiser:
        raise spec.error(
            "pipeline",
            f"cannot compute the TFLOPs of {spec.pipeline}, which has no {' or '.join(DENOISERS)}."
            " Give its candidates a 'cost'.",
        )
    interval = deepcache_interval(spec)
    if interval is not None and interval > 1:
        shallow = _shallow_call(spec, meta)
        denoiser = [cost if call % interval == 0 else shallow for call, cost in enumerate(denoiser)]
    text_encoders = [cost for part, cost in costs if part not in (*DENOISERS, DECODER)]
    decoder = [cost for part, cost in costs if part == DECODER]
    return CostTerms(
        denoiser=_total(denoiser, convention),
        text_encoder=_total(text_encoders, convention) if full else 0.0,
        decoder=_total(decoder, convention),
        denoiser_calls=calls,
        passes=round(sum(cost.rows for cost in denoiser) / calls),
    )


def _total(costs: list[CallCost], convention: Convention) -> float:
    """Return the TFLOPs of all calls; ``paper`` omits products of activations with each other."""
    if convention == "full":
        return sum(cost.projections + cost.products for cost in costs)
    return sum(cost.projections for cost in costs)


def _shallow_call(spec: DiffusersSpec, meta: MetaPipeline) -> CallCost:
    """Return the cost of a call of the denoiser between two full calls of DeepCache."""
    meta.meter.cache = DEEPCACHE
    try:
        with caching(spec, meta.pipeline, 2):
            costs = run_pipeline(spec, 2, meta, decode=False)
    finally:
        meta.meter.cache = ""
    return [cost for part, cost in costs if part in DENOISERS][1]

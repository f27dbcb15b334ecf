"""Checks of a candidate's sampling settings, which need no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from catimage.pool.generators.diffusion.caching import check_cache
from catimage.pool.generators.diffusion.call import check_call
from catimage.pool.generators.diffusion.sampling import guidance_arguments, new_scheduler
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.spec import Candidate


@dataclass(frozen=True)
class PipelineClasses:
    """Classes of a generator's pipeline and denoiser, and its scheduler.

    Attributes:
        pipeline: class of the pipeline.
        denoiser: class of the denoiser; NoneType if the pipeline has none.
        scheduler: the scheduler, an instance with the configuration of the weights.
    """

    pipeline: type[Any]
    denoiser: type[Any]
    scheduler: Any


def check_candidate(spec: DiffusersSpec, candidate: Candidate, classes: PipelineClasses) -> None:
    """Check the sampling settings of a candidate.

    Args:
        spec: the generator with the settings of the candidate.
        candidate: the candidate.
        classes: the classes of the generator.

    Raises:
        InputError: the scheduler, its options, the number of steps, the guidance, the arguments of
            the call or the caching method is not supported.
    """
    config = new_scheduler(spec, classes.scheduler).config
    max_steps = getattr(config, "num_train_timesteps", None)
    if max_steps is not None and candidate.steps > max_steps:
        raise spec.error(
            "steps",
            f"the candidate {candidate.candidate!r} has {candidate.steps} steps, but its scheduler"
            f" supports at most {max_steps}. Reduce its 'steps'.",
        )
    check_call(spec, classes.pipeline, candidate)
    guidance_arguments(spec, classes.pipeline)
    check_cache(spec, classes.pipeline, classes.denoiser)

"""Sampling settings of a pipeline: its scheduler, and the arguments for guidance."""

from __future__ import annotations

import inspect
from typing import Any

from catimage.errors import nearest
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.weights import diffusers_class


def new_scheduler(spec: DiffusersSpec, default: Any) -> Any:
    """Return a new scheduler with the class and the options in ``spec``.

    Args:
        spec: the generator.
        default: the scheduler of the weights, with the default class and configuration.

    Raises:
        InputError: diffusers has no such scheduler, or the scheduler has no such option.
    """
    cls = type(default)
    if spec.scheduler:
        cls = diffusers_class(spec, "scheduler", spec.scheduler, "Scheduler")
    options = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    for name in spec.scheduler_options:
        if name not in options:
            raise spec.error(
                f"scheduler_options.{name}",
                f"{cls.__name__} has no such option{nearest(name, options)}. Correct the name.",
            )
    return cls.from_config(default.config, **spec.scheduler_options)


def has_argument(pipeline: type[Any], name: str) -> bool:
    """Return whether the call of a pipeline class has an argument with this name."""
    return name in inspect.signature(pipeline.__call__).parameters


def guidance_arguments(spec: DiffusersSpec, pipeline: type[Any]) -> dict[str, float]:
    """Return the arguments of the pipeline's call that set the guidance.

    Raises:
        InputError: the pipeline does not support guidance of this kind.
    """
    name = "true_cfg_scale" if spec.guidance_kind == "true-cfg" else "guidance_scale"
    if spec.guided:
        _check_guidance(spec, pipeline, name)
    arguments = {name: spec.guidance} if has_argument(pipeline, name) else {}
    if spec.guidance_rescale:
        if not has_argument(pipeline, "guidance_rescale"):
            raise spec.error(
                "guidance_rescale",
                f"{pipeline.__name__} does not support this setting. Remove it.",
            )
        arguments["guidance_rescale"] = spec.guidance_rescale
    return arguments


def _check_guidance(spec: DiffusersSpec, pipeline: type[Any], name: str) -> None:
    """Check that the argument ``name`` makes the pipeline take two passes per step."""
    has_two_passes = any(
        has_argument(pipeline, argument)
        for argument in ("negative_prompt", "negative_prompt_embeds")
    )
    if not (has_argument(pipeline, name) and has_two_passes):
        raise spec.error(
            "guidance_kind",
            f"{pipeline.__name__} does not support guidance of the kind {spec.guidance_kind!r}."
            " Set another kind, or set 'guidance' to 1.",
        )
    if name == "guidance_scale" and has_argument(pipeline, "true_cfg_scale"):
        raise spec.error(
            "guidance_kind",
            f"{pipeline.__name__} supports guidance of the kinds 'true-cfg' and 'distilled'. Set"
            " one of them.",
        )

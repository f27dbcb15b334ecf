"""Checks of the key ``call``: further arguments of a pipeline's call."""

from __future__ import annotations

import inspect
from typing import Any

from catimage.errors import nearest
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.spec import Candidate

_SETTINGS = {
    "height": "'size'",
    "width": "'size'",
    "num_inference_steps": "'steps' of the candidate",
    "guidance_scale": "'guidance'",
    "true_cfg_scale": "'guidance' and 'guidance_kind: true-cfg'",
    "guidance_rescale": "'guidance_rescale'",
    "num_images_per_prompt": "'generate.seeds' in params.yaml",
    "generator": "'generate.seeds' in params.yaml",
    "latents": "'generate.seeds' in params.yaml",
}
"""The settings that replace arguments which this package sets."""
_RESERVED = ("prompt", "prompt_2", "prompt_3", "prompt_4", "output_type", "return_dict")
_RESERVED_PARTS = ("prompt_embeds", "prompt_attention_mask", "image", "callback")
"""Parts of the names of further arguments that this package sets, or that YAML cannot express."""
_SCHEDULES = ("timesteps", "sigmas")


def negative_prompts(spec: DiffusersSpec) -> dict[str, str]:
    """Return the negative prompts in ``call``, by argument of the pipeline's call."""
    return {name: value for name, value in spec.call.items() if _is_negative_prompt(name)}


def other_arguments(spec: DiffusersSpec) -> dict[str, Any]:
    """Return the arguments in ``call`` that are not negative prompts."""
    return {name: value for name, value in spec.call.items() if not _is_negative_prompt(name)}


def _is_negative_prompt(name: str) -> bool:
    return name.startswith("negative_prompt") and not _is_reserved(name)


def _is_reserved(name: str) -> bool:
    return name in _RESERVED or any(part in name for part in _RESERVED_PARTS)


def check_call(spec: DiffusersSpec, pipeline: type[Any], candidate: Candidate) -> None:
    """Check that the pipeline's call has the arguments in ``call`` and that a pool may set them.

    Args:
        spec: the generator with the settings of the candidate.
        pipeline: class of the pipeline.
        candidate: the candidate.

    Raises:
        InputError: the pipeline has no such argument, this package sets it, a negative prompt has
            no effect or is not a text, or a schedule has another number of steps.
    """
    names = [
        name
        for name, parameter in inspect.signature(pipeline.__call__).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]
    for name, value in spec.call.items():
        _check_name(spec, name, names)
        if _is_negative_prompt(name):
            _check_negative_prompt(spec, name, value, candidate)
        if name in _SCHEDULES:
            _check_schedule(spec, name, value, candidate)


def _check_name(spec: DiffusersSpec, name: str, names: list[str]) -> None:
    allowed = [n for n in names if n not in _SETTINGS and not _is_reserved(n)]
    if name not in names:
        raise spec.error(
            f"call.{name}",
            f"{spec.pipeline} has no such argument{nearest(name, allowed)}. Correct the name.",
        )
    if name == "guidance_scale" and spec.guidance_kind == "true-cfg":
        return  # the scale of distilled guidance, which 'guidance' does not set in this case
    if name in _SETTINGS:
        fix = f"Remove it, and set {_SETTINGS[name]} instead"
        raise spec.error(f"call.{name}", f"another setting determines this argument. {fix}.")
    if _is_reserved(name):
        raise spec.error(
            f"call.{name}",
            "this argument differs between images or has no value in YAML, so a pool cannot set it."
            " Remove it.",
        )


def _check_negative_prompt(
    spec: DiffusersSpec, name: str, value: Any, candidate: Candidate
) -> None:
    if not isinstance(value, str):
        raise spec.error(
            f"call.{name}",
            f"{value!r} is not a text. Write one text, which is used for all images.",
        )
    if not spec.guided:
        raise spec.error(
            f"call.{name}",
            f"a negative prompt has no effect without guidance, which the candidate"
            f" {candidate.candidate!r} does not use. Remove it, or set 'guidance' above 1.",
        )


def _check_schedule(spec: DiffusersSpec, name: str, value: Any, candidate: Candidate) -> None:
    if not isinstance(value, list) or candidate.steps not in (len(value), len(value) - 1):
        raise spec.error(
            f"call.{name}",
            f"{value!r} is not a list of {candidate.steps} numbers, the number of steps of the"
            f" candidate {candidate.candidate!r}. Correct the list or 'steps'.",
        )

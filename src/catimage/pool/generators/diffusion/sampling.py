"""Sampling settings of a pipeline: its scheduler, and the arguments for guidance."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from catimage.errors import InputError, error_summary, nearest
from catimage.pool.generators.diffusion.classes import diffusers_class
from catimage.pool.generators.diffusion.spec import DiffusersSpec


def default_scheduler(spec: DiffusersSpec, cls: type[Any], folder: Path) -> tuple[bool, Any]:
    """Return the scheduler of the weights.

    Some weights have a configuration that their own scheduler refuses. The generator's settings
    ``scheduler`` and ``scheduler_options`` then replace it.

    Args:
        spec: the generator's settings in the pool file.
        cls: the class of the scheduler in model_index.json.
        folder: the folder of the scheduler's configuration.

    Returns:
        Whether settings of the generator were needed, and the scheduler.

    Raises:
        InputError: the configuration is invalid, also with the generator's settings.
    """
    config = None
    try:
        config = cls.load_config(folder)
        return False, cls.from_config(config)
    except Exception as error:  # schedulers raise exceptions of any type
        if config is None or not (spec.scheduler or spec.scheduler_options):
            raise spec.error(
                "weights",
                f"the configuration of the scheduler in {folder} is invalid"
                f" ({error_summary(error)}). Set 'scheduler' or 'scheduler_options', or other"
                " weights.",
            ) from error
    return True, _build_scheduler(spec, cls, config)


def new_scheduler(spec: DiffusersSpec, default: Any) -> Any:
    """Return a new scheduler with the class and the options in ``spec``.

    Args:
        spec: the generator's settings in the pool file.
        default: the scheduler of the weights, with the default class and configuration.

    Raises:
        InputError: diffusers has no such scheduler, or the scheduler has no such option, or does
            not accept the values of the options and of the weights' configuration.
    """
    return _build_scheduler(spec, type(default), default.config)


def _build_scheduler(spec: DiffusersSpec, cls: type[Any], config: Any) -> Any:
    if spec.scheduler:
        cls = diffusers_class(spec, "scheduler", spec.scheduler, "Scheduler")
    parameters = dict(inspect.signature(cls.__init__).parameters)
    options = [name for name in parameters if name != "self"]
    for name, value in spec.scheduler_options.items():
        if name not in options:
            raise spec.error(
                f"scheduler_options.{name}",
                f"{cls.__name__} has no such option{nearest(name, options)}. Correct the name.",
            )
        _check_type(spec, name, value, parameters[name].default)
    try:
        return cls.from_config(config, **spec.scheduler_options)
    except Exception as error:  # schedulers raise exceptions of any type
        raise scheduler_error(spec, cls, error) from error


def scheduler_error(spec: DiffusersSpec, cls: type[Any], error: Exception) -> InputError:
    """Return the error for a scheduler that does not accept the generator's settings."""
    key = "scheduler_options" if spec.scheduler_options else "scheduler"
    options = ", ".join(f"{name}: {value}" for name, value in spec.scheduler_options.items())
    problem = (
        f"{cls.__name__} does not accept {{{options}}}" if options else f"{cls.__name__} fails"
    )
    return spec.error(
        key,
        f"{problem} with the configuration of the weights ({error_summary(error)}). Correct the"
        " options, or set another scheduler.",
    )


def _check_type(spec: DiffusersSpec, name: str, value: Any, default: Any) -> None:
    """Check the type of an option's value, as far as the option's default shows it."""
    key = f"scheduler_options.{name}"
    if isinstance(value, str) and not isinstance(default, str) and _is_number(value):
        raise spec.error(key, f"is the text {value!r}. Write the number {float(value)!r}.")
    if isinstance(default, bool) and value is not None and not isinstance(value, bool):
        raise spec.error(key, f"{value!r} is not true or false. Write one of them.")
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    if is_number and (isinstance(value, bool) or not isinstance(value, int | float | None)):
        raise spec.error(key, f"{value!r} is not a number. Write a number.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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

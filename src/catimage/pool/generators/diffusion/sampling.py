"""How a pipeline samples: its scheduler, and the argument that carries guidance."""

from __future__ import annotations

import inspect
from typing import Any

from catimage.errors import nearest
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.weights import diffusers_class


def scheduler_of(spec: DiffusersSpec, own: Any) -> Any:
    """A fresh scheduler of the class and options that ``spec`` names, otherwise configured as the
    weights' ``own``.

    Raises:
        InputError: diffusers has no such scheduler, or the scheduler no such option.
    """
    cls = (
        diffusers_class(spec, "scheduler", spec.scheduler, "Scheduler")
        if spec.scheduler
        else type(own)
    )
    known = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    for name in spec.scheduler_options:
        if name not in known:
            raise spec.error(
                f"scheduler_options.{name}",
                f"{cls.__name__} has no such option{nearest(name, known)}.",
            )
    return cls.from_config(own.config, **spec.scheduler_options)


def takes(pipeline: type[Any], argument: str) -> bool:
    """Whether the pipeline's call has an argument of that name."""
    return argument in inspect.signature(pipeline.__call__).parameters


def guidance_arguments(spec: DiffusersSpec, pipeline: type[Any]) -> dict[str, float]:
    """The arguments of the call that carry guidance; none for a pipeline without guidance.

    Raises:
        InputError: the pipeline does not take guidance in this way.
    """
    name = "true_cfg_scale" if spec.guidance_kind == "true-cfg" else "guidance_scale"
    two = takes(pipeline, "negative_prompt") or takes(pipeline, "negative_prompt_embeds")
    if spec.guided and not (takes(pipeline, name) and two):
        raise spec.error(
            "guidance_kind",
            f"{pipeline.__name__} takes no guidance of the kind {spec.guidance_kind!r}; say another"
            " kind.",
        )
    if spec.guided and name == "guidance_scale" and takes(pipeline, "true_cfg_scale"):
        raise spec.error(
            "guidance_kind",
            f"{pipeline.__name__} takes guidance as 'true-cfg' or 'distilled'; say which.",
        )
    if spec.guidance_rescale and not takes(pipeline, "guidance_rescale"):
        raise spec.error("guidance_rescale", f"{pipeline.__name__} does not take it; leave it out.")
    rescale = {"guidance_rescale": spec.guidance_rescale} if spec.guidance_rescale else {}
    return {**({name: spec.guidance} if takes(pipeline, name) else {}), **rescale}

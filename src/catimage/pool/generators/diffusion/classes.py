"""Classes of pipelines and of their parts, found as diffusers finds them."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from catimage.errors import nearest
from catimage.pool.generators.diffusion.spec import DiffusersSpec

SAFETY_CHECKER = "safety_checker"
"""The name of the part that checks finished images."""

_LIBRARIES = ("diffusers", "transformers")
"""The libraries that parts are loaded from, besides the pipeline modules of diffusers.

Other modules in a model_index.json are not imported, since importing a module runs its code.
"""


@dataclass(frozen=True)
class PartClass:
    """The class of a part in a model_index.json.

    Attributes:
        library: ``diffusers``, ``transformers``, or a pipeline module of diffusers, such as
            ``stable_diffusion`` for the safety checker of Stable Diffusion 1.
        class_name: name of the class.
    """

    library: str
    class_name: str


def diffusers_class(spec: DiffusersSpec, key: str, name: str, suffix: str) -> Any:
    """Return a class of diffusers.

    Args:
        spec: the generator, for error messages.
        key: the setting that names the class.
        name: name of the class.
        suffix: common end of the names of these classes, such as ``Pipeline``.

    Raises:
        InputError: diffusers has no such class, and the message suggests the nearest name; or the
            class needs a package that is not installed.
    """
    import diffusers

    cls = getattr(diffusers, name, None) if name.endswith(suffix) else None
    if cls is None:
        names = [attribute for attribute in dir(diffusers) if attribute.endswith(suffix)]
        raise spec.error(
            key,
            f"diffusers has no {suffix.lower()} called {name!r}{nearest(name, names)}. Correct the"
            " name.",
        )
    if isinstance(cls, diffusers.utils.DummyObject):
        packages = " ".join(cls._backends)
        raise spec.error(
            key,
            f"{name} needs packages that are not installed. Run 'pip install {packages}'.",
        )
    return cls


def part_class(spec: DiffusersSpec, name: str, part: PartClass) -> Any:
    """Return the class of a part.

    The module of the pipeline has to be imported first; see :func:`diffusers_class`.

    Args:
        spec: the generator, for error messages.
        name: name of the part.
        part: library and name of the class.

    Raises:
        InputError: the class is not part of diffusers or transformers.
    """
    from diffusers import pipelines

    module: Any = getattr(pipelines, part.library, None)
    if module is None and part.library in _LIBRARIES:
        module = import_module(part.library)
    cls = getattr(module, part.class_name, None)
    if cls is None:
        raise spec.error(
            "weights",
            f"the class of the part {name!r}, {part.class_name} of {part.library!r}, is unknown to"
            " the installed versions of diffusers and transformers. Leave an optional part out with"
            f" 'parts: {{{name}: null}}', or set other weights.",
        )
    return cls


def part_classes(spec: DiffusersSpec, root: Path) -> dict[str, PartClass | None]:
    """Return the class of each part in a model_index.json; None for a part that is left out.

    Args:
        spec: the generator, for error messages.
        root: the folder of model_index.json.

    Raises:
        InputError: the file is damaged.
    """
    return {
        name: PartClass(entry[0], entry[1]) if entry[0] and entry[1] else None
        for name, entry in read_index(spec, root).items()
        if not name.startswith("_") and isinstance(entry, list) and len(entry) == 2
    }


def read_index(spec: DiffusersSpec, root: Path) -> dict[str, Any]:
    """Read the file model_index.json in the folder of a pipeline.

    Returns:
        The value ``[library, class]`` for each part (``[None, None]`` if the pipeline does not
        have the part), and the values of the pipeline's options.

    Raises:
        InputError: the file is damaged.
    """
    file = root / "model_index.json"
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        index = None
    if not isinstance(index, dict):
        raise spec.error("weights", f"{file} is damaged. Download it again.")
    return index


def used_parts(spec: DiffusersSpec, pipeline: type[Any], root: Path) -> dict[str, PartClass]:
    """Return the classes of the parts that a pipeline is built from, by name.

    Parts in model_index.json that the pipeline has no argument for, and parts that the pool leaves
    out, are not in the result.

    Args:
        spec: the generator's settings in the pool file.
        pipeline: class of the pipeline.
        root: the folder of model_index.json.

    Raises:
        InputError: the weights lack a part of the pipeline, a part in ``parts`` is unknown, or a
            part that the pipeline needs is left out.
    """
    expected, _ = pipeline._get_signature_keys(pipeline)
    classes = part_classes(spec, root)
    if unknown := [name for name in spec.parts if name not in expected]:
        raise spec.error(
            f"parts.{unknown[0]}",
            f"{spec.pipeline} has no such part. The parts are {', '.join(classes)}.",
        )
    _check_omitted(spec, pipeline)
    _check_complete(spec, pipeline, root)
    return {
        name: part
        for name, part in classes.items()
        if part is not None and name in expected and name not in spec.omitted_parts
    }


def _check_omitted(spec: DiffusersSpec, pipeline: type[Any]) -> None:
    for name in spec.omitted_parts:
        if name not in pipeline._optional_components:
            raise spec.error(
                f"parts.{name}",
                f"{spec.pipeline} needs this part, so it cannot be left out. Remove the key, or"
                " set 'weights' for the part.",
            )


def _check_complete(spec: DiffusersSpec, pipeline: type[Any], root: Path) -> None:
    """Check that the weights have all parts of the pipeline.

    Optional parts may be missing only if the weights are those of the same pipeline class.
    """
    index = read_index(spec, root)
    class_name = index.get("_class_name", "another pipeline")
    optional = pipeline._optional_components if class_name == spec.pipeline else []
    missing = [
        name
        for name, parameter in inspect.signature(pipeline.__init__).parameters.items()
        if name not in ("self", *optional, *spec.omitted_parts, *index)
        and parameter.default is parameter.empty
    ]
    if missing and class_name == spec.pipeline:
        raise spec.error(
            "weights",
            f"{root / 'model_index.json'} lacks the part {missing[0]}, which {spec.pipeline} needs."
            " Download the weights again.",
        )
    if missing:
        raise spec.error(
            "pipeline",
            f"the weights in {root} are of {class_name} and lack the {missing[0]} of"
            f" {spec.pipeline}. Set 'pipeline: {class_name}', or other weights.",
        )

"""Loading and validation of ``params.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from catimage.common.schema_errors import first_problem
from catimage.errors import InputError, closest
from catimage.params.all import Params
from catimage.params.editing import apply_setting, plain, read_tree, save_params
from catimage.params.sources import SOURCE_KINDS

RENAMED_KEYS = {
    "generate.batch": "generate.batch_size",
    "label.batch": "label.batch_size",
}
"""New names of the keys that have been renamed, by old name."""


def load_params(path: Path, settings: list[str] | None = None) -> Params:
    """Read ``params.yaml``; an omitted key has its default value.

    Args:
        path: the file, which need not exist.
        settings: settings of the form ``key=value``, which are also written to the file.

    Raises:
        InputError: the file is not YAML, a key is unknown, or a value is invalid. In these cases,
            the file is not changed.
    """
    tree = read_tree(path)
    for setting in settings or []:
        apply_setting(tree, setting)
    params = parse_params(tree, path)
    if settings:
        save_params(tree, path)
    return params


def parse_params(tree: dict[str, Any], source: Path | str) -> Params:
    """Validate a tree of parameters.

    Args:
        tree: the output of :func:`~catimage.params.editing.read_tree`.
        source: the file that error messages name.

    Raises:
        InputError: a key is unknown, or a value is invalid.
    """
    try:
        return Params.model_validate(plain(tree))
    except ValidationError as error:
        raise InputError(f"{source}: {_message(error)}") from error


def _message(error: ValidationError) -> str:
    """Return a message with the first problem and its fix."""
    first = error.errors()[0]
    parts = _parts(first["loc"])
    key = _key(parts)
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}. {_unknown_key_fix(key, parts)}"
    fix = "Add it." if first["type"] == "missing" else "Correct the value."
    return f"key {key!r}: {first_problem(error)}. {fix}"


def _parts(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys and positions of a location.

    Pydantic inserts the kind of a prompt source after the position of the source; it is left out.
    """
    return [
        str(part)
        for i, part in enumerate(location)
        if not (part in SOURCE_KINDS and location[:2] == ("sample", "sources") and i == 3)
    ]


def _key(parts: list[str]) -> str:
    """Return a key as text, such as ``sample.sources, entry 1, path``; entries count from 1."""
    key = ""
    for part, last in zip(parts, ["", *parts], strict=False):
        if part.isdigit():
            key += f", entry {int(part) + 1}"
        else:
            separator = ", " if last.isdigit() else "."
            key += part if not key else separator + part
    return key


def _unknown_key_fix(key: str, parts: list[str]) -> str:
    """Return the fix of an unknown key: its new name, a similar name or all names."""
    if key in RENAMED_KEYS:
        return f"It is now called {RENAMED_KEYS[key]!r}."
    names = _keys_of_section(parts[:-1])
    suggestion = closest(parts[-1], names)
    return f"Did you mean {suggestion!r}?" if suggestion else f"Use one of {', '.join(names)}."


def _keys_of_section(parts: list[str]) -> list[str]:
    """Return the keys of a section; ``parts`` are the keys that lead to the section."""
    model: Any = Params
    for part in parts:
        field = (
            next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
            if hasattr(model, "model_fields")
            else None
        )
        model = _section_in(field.annotation) if field else model if part.isdigit() else None
    fields = getattr(model, "model_fields", {})
    return [f.alias or n for n, f in fields.items()]


def _section_in(annotation: Any) -> Any:
    """Return the section class in an annotation such as ``tuple[X, ...]`` or ``X | None``.

    If the annotation has no section class, it is returned unchanged.
    """
    inner = (annotation, *get_args(annotation))
    return next((a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), annotation)

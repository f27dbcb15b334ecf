"""``params.yaml`` and ``--set key=value``: reading, checking, writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from catimage.errors import InputError, nearest
from catimage.params.all import Params
from catimage.workspace import replacing


def load_params(path: Path, settings: list[str] | None = None) -> Params:
    """Reads ``params.yaml`` (defaults fill what it leaves out), applies ``key=value`` settings and
    writes those to the file.

    Raises:
        InputError: not YAML, an unknown key (with the nearest known one), or a value of the wrong
            type.
    """
    tree = read_tree(path)
    for setting in settings or []:
        apply_setting(tree, setting)
    params = parse_params(tree, path)
    if settings:
        save_params(tree, path)
    return params


def parse_params(tree: dict[str, Any], where: Path | str) -> Params:
    """Validates a tree of parameters; ``where`` is named in the error."""
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{where}: {_sentence(error)}") from error


def save_params(tree: dict[str, Any], path: Path) -> None:
    """Writes a tree of parameters as YAML, whole or not at all."""
    with replacing(path) as fresh:
        fresh.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def read_tree(path: Path) -> dict[str, Any]:
    """The keys and values that ``params.yaml`` itself says, without defaults and unchecked; empty
    where there is no file.

    Raises:
        InputError: not YAML, or not a mapping.
    """
    if not path.exists():
        return {}
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not readable as YAML: {' '.join(str(error).split())}."
        ) from error
    if not isinstance(tree, dict):
        raise InputError(
            f"{path}: must be a mapping of keys to values, as in the README's example."
        )
    return tree


def apply_setting(tree: dict[str, Any], setting: str) -> None:
    """Puts one ``key=value`` (dotted keys reach into sections) into ``tree``.

    Raises:
        InputError: no ``=``, a value that is not YAML, or a dotted key that goes through a value.
    """
    key, sign, text = setting.partition("=")
    if not sign or not key.strip():
        raise InputError(f"--set {setting!r}: write key=value, such as --set budget=40%.")
    *sections, last = key.strip().split(".")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise InputError(f"--set {setting!r}: {section!r} holds a value, not a section.")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {setting!r}: the value is not readable as YAML.") from error


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, in words."""
    first = error.errors()[0]
    place = [str(p) for p in first["loc"] if p not in ("SceneSource", "FileSource")]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        return (
            f"unknown key {key!r}{nearest(place[-1], known)}; the keys there are"
            f" {', '.join(known)}."
        )
    message = first["msg"].removeprefix("Value error, ")
    return f"key {key!r}: {message[0].lower() + message[1:]} (found {first.get('input')!r})."


def _known_keys(place: list[str]) -> list[str]:
    model: Any = Params
    for part in place:
        field = (
            next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
            if hasattr(model, "model_fields")
            else None
        )
        model = _model_in(field.annotation) if field else model if part.isdigit() else None
    fields = getattr(model, "model_fields", {})
    return [f.alias or n for n, f in fields.items()]


def _model_in(annotation: Any) -> Any:
    """The section that an annotation is, or is a list, tuple, mapping or option of; the annotation
    itself where there is none.
    """
    inside = (annotation, *get_args(annotation))
    return next((a for a in inside if isinstance(a, type) and issubclass(a, BaseModel)), annotation)

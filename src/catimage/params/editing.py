"""Reading and changing ``params.yaml``; its comments are kept."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.tokens import CommentToken

from catimage.common.yaml_files import read_yaml, yaml_problem
from catimage.errors import InputError
from catimage.workspace import replacing


def read_tree(path: Path) -> dict[str, Any]:
    """Read the keys and values of ``params.yaml``; the values are not validated.

    Returns:
        Nested mappings of the keys in the file. They also contain the comments, which
        :func:`save_params` writes. The mapping is empty if the file does not exist.

    Raises:
        InputError: the file is not YAML, or is not a mapping.
    """
    if not path.exists():
        return CommentedMap()
    try:
        tree = read_yaml(path, _yaml())
    except IsADirectoryError as error:
        raise InputError(
            f"{path}: is a folder, not a file. Rename or remove it, or give another workspace."
        ) from error
    if tree is None:
        return CommentedMap()
    if not isinstance(tree, dict):
        raise InputError(
            f"{path}: the content is not a mapping. Write lines such as 'budget: 40%'."
        )
    return tree


def save_params(tree: dict[str, Any], path: Path) -> None:
    """Write parameters and their comments as YAML.

    The previous file is replaced only after the new file is complete.

    Args:
        tree: the output of :func:`read_tree`.
        path: the file to write.
    """
    with replacing(path) as fresh:
        fresh.write_text(params_text(tree), encoding="utf-8")


def params_text(tree: dict[str, Any]) -> str:
    """Return parameters and their comments as YAML."""
    text = StringIO()
    _yaml().dump(tree, text)
    return text.getvalue()


def apply_setting(tree: dict[str, Any], setting: str) -> None:
    """Change one value of a tree of parameters, and keep its comment.

    Args:
        tree: the output of :func:`read_tree`, which is changed in place.
        setting: ``key=value``. The key of a value in a section has a dot, such as
            ``calibrate.estimator``. The value is YAML.

    Raises:
        InputError: the setting has no ``=``, the value is not YAML, or a part of the key before the
            last dot is not the name of a section.
    """
    key, sign, text = setting.partition("=")
    if not sign or not key.strip():
        raise InputError(f"--set {setting!r}: no value. Write key=value, such as --set budget=40%.")
    *sections, last = key.strip().split(".")
    section = tree
    for name in sections:
        section = section.setdefault(name, CommentedMap())
        if not isinstance(section, dict):
            raise InputError(f"--set {setting!r}: {name!r} is not a section. Correct the key.")
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        reason = yaml_problem(error).removeprefix("line 1: ")
        raise InputError(f"--set {setting!r}: {reason}") from error
    comment = _comment(section, last)
    section[last] = _flow_style(value)
    if isinstance(section, CommentedMap):
        section.ca.items.pop(last, None)
        if comment is not None:
            section.ca.items[last] = [None, None, comment, None]


def plain(value: Any) -> Any:
    """Convert the output of :func:`read_tree` to built-in types of Python."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _yaml() -> YAML:
    """Return a YAML parser and writer that keeps comments, quotes and long lines."""
    yaml = YAML(pure=True)
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _flow_style(value: Any) -> Any:
    """Convert a list or mapping to one that is written in flow style, on one line."""
    if not isinstance(value, dict | list):
        return value
    converted: Any = (
        CommentedMap((key, _flow_style(item)) for key, item in value.items())
        if isinstance(value, dict)
        else CommentedSeq(_flow_style(item) for item in value)
    )
    converted.fa.set_flow_style()
    return converted


def _comment(section: dict[str, Any], key: str) -> CommentToken | None:
    """Return the comment on the line of ``key`` and the comment lines after its value."""
    if not isinstance(section, CommentedMap):
        return None
    entry = section.ca.items.get(key)
    token = entry[2] if entry else None
    text = (token.value if token else "\n") + _comment_lines_after(section.get(key))
    column = token.start_mark.column if token else 0
    return CommentToken(text, CommentMark(column), None) if text != "\n" else None


def _comment_lines_after(value: Any) -> str:
    """Return the comment lines after a list or mapping.

    The parser stores these comments at the last item of the list or mapping.
    """
    text = ""
    while isinstance(value, CommentedMap | CommentedSeq) and len(value):
        last, slot = (len(value) - 1, 0) if isinstance(value, CommentedSeq) else ([*value][-1], 2)
        entry = value.ca.items.get(last)
        text = entry[slot].value if entry and entry[slot] else ""
        value = value[last]
    return text.partition("\n")[2]

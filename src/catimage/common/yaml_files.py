"""Reading of YAML files that users write: parameters, pools and experiments.

All of these files are YAML 1.2: ``1e-3`` is a number, ``no`` is a string, and a key that occurs
twice is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from catimage.errors import InputError

_REASONS = (
    (r"found character '\\t'|found a tab", "a tab is used to indent. Use spaces."),
    (
        r"expected ',' or '[]}]'",
        "a bracket is not closed, or a comma is missing. Add the bracket or the comma.",
    ),
    (
        r"while scanning a quoted scalar|unexpected end of stream",
        "a quotation mark is not closed. Add it.",
    ),
    (
        r"mapping values are not allowed|could not find expected ':'",
        "a colon is missing or misplaced, or a line is indented wrongly. Put strings with ': '"
        " in quotation marks.",
    ),
    (
        r"expected <block end>|did not find expected|block mapping|block sequence",
        "the line is indented wrongly. Indent the entries of a section equally.",
    ),
    (
        r"cannot start any token",
        "a string begins with a special character. Put it in quotation marks.",
    ),
    (r"undefined alias", "'*' begins an alias in YAML. Put the string in quotation marks."),
)
"""Patterns in the messages of the YAML parser, with the problem and its fix in English."""
_CONFLICT = re.compile(r"^(<<<<<<<|>>>>>>>) ", re.MULTILINE)
_DUPLICATE_KEY = re.compile(r'duplicate key "(.*?)"')


def read_yaml(path: Path, yaml: YAML | None = None) -> Any:
    """Read a YAML file.

    Args:
        path: the file.
        yaml: the parser; by default one that returns built-in types of Python.

    Raises:
        InputError: the file is not UTF-8 or not YAML. The message has the number of the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if conflict := _CONFLICT.search(text):
            line = text.count("\n", 0, conflict.start()) + 1
            raise InputError(f"{path}: line {line}: a merge conflict of git. Resolve it.")
        return (yaml or YAML(typ="safe", pure=True)).load(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the file is not UTF-8 text. Save it as UTF-8.") from error
    except YAMLError as error:
        raise InputError(f"{path}: {yaml_problem(error)}") from error


def yaml_problem(error: YAMLError) -> str:
    """Return the problem that a YAML parser found and its fix, with the number of the line."""
    if not isinstance(error, MarkedYAMLError):
        return "the file has characters that YAML does not allow. Remove them."
    mark = error.problem_mark or error.context_mark
    line = f"line {mark.line + 1}: " if mark else ""
    message = f"{error.context or ''} {error.problem or ''}"
    if isinstance(error, DuplicateKeyError) and (match := _DUPLICATE_KEY.search(message)):
        return f"{line}the key {match[1]!r} occurs twice. Remove one."
    for pattern, reason in _REASONS:
        if re.search(pattern, message):
            return line + reason
    return f"{line}not readable as YAML. Correct the syntax."

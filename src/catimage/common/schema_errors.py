"""Plain descriptions of the errors that pydantic finds in YAML and JSON files.

The messages of pydantic use terms of Python, such as "valid tuple" and "instance of". A user of
``params.yaml`` or of a pool file needs the terms of YAML.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

MAX_VALUE_LENGTH = 60
"""The maximum length of an invalid value in a message; longer values are shortened."""
_MAPPING = "must be a mapping, lines of the form 'key: value'"
_LIST = "must be a list, such as [a, b]"
_INTEGER = "must be a whole number"
_NUMBER = "must be a number"
_BOOLEAN = "must be true or false"
_TEXT = "must be a text"
_PROBLEMS: dict[str, str] = {
    "missing": "is required, but missing",
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "string_type": _TEXT,
    "int_type": _INTEGER,
    "int_parsing": _INTEGER,
    "int_from_float": _INTEGER,
    "int_parsing_size": "must be a smaller whole number",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "none_required": "must be empty",
    "json_invalid": "is not valid JSON",
}
"""The problem by type of pydantic's error, for the types without parameters."""
_PROBLEMS_WITH_VALUES: dict[str, Callable[[dict[str, Any]], str]] = {
    "literal_error": lambda context: f"must be {context['expected']}",
    "enum": lambda context: f"must be {context['expected']}",
    "union_tag_invalid": lambda context: (
        f"must have a kind that is one of {context['expected_tags']}"
    ),
    "greater_than": lambda context: f"must be greater than {context['gt']:g}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']:g}",
    "less_than": lambda context: f"must be less than {context['lt']:g}",
    "less_than_equal": lambda context: f"must be at most {context['le']:g}",
    "multiple_of": lambda context: f"must be a multiple of {context['multiple_of']:g}",
    "too_short": lambda context: f"must have at least {_entries(context['min_length'])}",
    "too_long": lambda context: f"must have at most {_entries(context['max_length'])}",
    "string_too_short": lambda _: "must not be empty",
    "string_pattern_mismatch": lambda _: (
        "must begin with a letter or a digit, and may contain letters, digits, '.', '_' and '-'"
    ),
    "value_error": lambda context: str(context["error"]).rstrip("."),
}
"""The problem by type of pydantic's error, computed from the parameters of the error."""


def first_problem(error: ValidationError) -> str:
    """Return the problem of the first error, such as ``must be a whole number, not 'x'``.

    The location of the error, ``error.errors()[0]["loc"]``, is not part of the text.
    """
    first = error.errors()[0]
    kind = first["type"]
    if kind in _PROBLEMS_WITH_VALUES:
        problem = _PROBLEMS_WITH_VALUES[kind](dict(first.get("ctx") or {}))
    else:
        problem = _PROBLEMS.get(kind, f"is invalid ({first['msg'].lower()})")
    if not problem.startswith("must"):
        return problem
    return f"{problem}, not {shown(first['input'])}"


def shown(value: Any) -> str:
    """Return a value as a user would write it in YAML, shortened; ``empty`` for None."""
    if value is None:
        return "empty"
    if isinstance(value, str):
        text = repr(value)
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 3] + "..."


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"

"""Messages for wrong arguments of the command line, as one sentence."""

from __future__ import annotations

import re
from typing import Any

import typer

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""The exception of wrong arguments, which typer does not export."""
_REPLACEMENTS = (
    (r"Input should be a valid integer.*", "must be a whole number"),
    (r"Input should be a valid number.*", "must be a number"),
    (r"Input should be greater than or equal to (\S+)", r"must be \1 or more"),
    (r"Input should be less than or equal to (\S+)", r"must be \1 or less"),
)
"""Patterns in the messages of typer, and their replacements."""


def usage_message(error: Any) -> str:
    """Return the problem of a wrong argument, and the command that prints the valid ones."""
    message = error.format_message().rstrip(".")
    for pattern, replacement in _REPLACEMENTS:
        message = re.sub(pattern, replacement, message)
    command = error.ctx.command_path if error.ctx else "catimage"
    end = "" if message.endswith("?") else "."
    return f"{message[0].lower()}{message[1:]}{end} Run '{command} --help'."

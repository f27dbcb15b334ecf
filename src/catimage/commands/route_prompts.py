"""The prompts of ``catimage route``: arguments, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from catimage.data.importers.tables import read_prompts_table
from catimage.data.importers.text_files import decode_text, read_text
from catimage.errors import InputError

TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""Suffixes of files with a column ``prompt``; any other file has one prompt per line."""
STDIN = "-"
"""The name of standard input as an argument or as a file."""


def read_prompts(arguments: list[str], file: Path | None) -> list[str]:
    """Return the prompts to route: the arguments, then those of the file.

    Without both, and for the argument or file ``-``, one prompt per line is read from standard
    input. Equal prompts are kept, because each is a request.

    Args:
        arguments: the arguments of the command.
        file: the option ``--file``.

    Raises:
        InputError: there is no prompt, a file cannot be read, or an argument is the name of a file
            after ``@``.
    """
    for argument in arguments:
        if argument.startswith("@") and argument == "".join(argument.split()):
            raise InputError(
                f"{argument}: not a prompt. Use --file {argument[1:] or 'FILE'} to read prompts"
                " from a file."
            )
    if arguments == [STDIN] and file is None:
        return _read_stdin()
    if STDIN in arguments:
        raise InputError("-: standard input cannot be combined with other prompts. Use only one.")
    if not arguments and file is None:
        return _read_stdin()
    return arguments + ([] if file is None else _read_file(file))


def _read_file(path: Path) -> list[str]:
    if str(path) == STDIN:
        return _read_stdin()
    if path.suffix.lower() not in TABLES:
        return _lines(read_text(path))
    codes, texts = read_prompts_table(path, "prompt").texts("prompt")
    return [texts[code] for code in codes.tolist()]


def _read_stdin() -> list[str]:
    """Return the lines of standard input; a terminal is not read."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("PROMPT: missing. Give prompts, --file PROMPTS, or prompts in a pipe.")
    return _lines(decode_text(sys.stdin.buffer.read(), "standard input"))


def _lines(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]

"""Messages name only commands that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer.main

import catimage
from catimage.cli.app import app

PACKAGE = Path(catimage.__file__).parent
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
"""The commands of the command line."""
NAMED = re.compile(r"'catimage ([a-z][a-z-]*)[ ']")
READERS = {"damage_reported": 1, "read_json": 1, "read_table": 2, "read_columns": 1}
"""The position of the name of a command in the arguments of functions that report damage."""


def named_commands(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the names of commands in the texts of a file, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno, name) for name in NAMED.findall(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            position = READERS.get(node.func.id, len(node.args))
            for argument in node.args[position : position + 1]:
                if isinstance(argument, ast.Constant):
                    yield node.lineno, str(argument.value)


def test_every_command_that_a_message_names_exists() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{line} {name}"
        for path in PACKAGE.rglob("*.py")
        for line, name in named_commands(path)
        if name not in COMMANDS
    }
    assert found == set()


def test_messages_that_name_commands_are_found() -> None:
    names = {name for path in PACKAGE.rglob("*.py") for _, name in named_commands(path)}
    assert {"generate", "promote", "sample", "upgrade"} <= names

"""Options that several commands share, and functions that load parameters and print rows."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catimage.errors import InputError

if TYPE_CHECKING:
    from catimage.params import Params
    from catimage.workspace import Workspace

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", help="The folder with params.yaml, data/, models/ and reports/."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a parameter in params.yaml before the command runs."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else.")
]
CostsOption = Annotated[
    Path | None,
    typer.Option(
        help="A file with the columns candidate,cost,unit. Without it, every candidate costs 1."
    ),
]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace", help="Replace the data of a workspace in which estimators have been trained."
    ),
]


def load_workspace(workspace: Path, settings: list[str] | None) -> tuple[Workspace, Params]:
    """Return a workspace and its parameters, after writing ``settings`` to ``params.yaml``.

    Raises:
        InputError: the folder does not exist, or a parameter is invalid.
    """
    from catimage.params import load_params

    check_folder(workspace)
    texts = None if settings is None else [decoded("--set", setting) for setting in settings]
    paths = open_workspace(workspace)
    return paths, load_params(workspace / "params.yaml", texts)


def open_workspace(folder: Path) -> Workspace:
    """Return a workspace, after completing a replacement of files that a killed command had begun.

    Args:
        folder: the folder of the workspace, which need not exist.
    """
    from catimage.commands.recovery import recover
    from catimage.workspace import Workspace

    workspace = Workspace(folder)
    recover(workspace)
    return workspace


def check_folder(workspace: Path) -> None:
    """Check that the folder of a workspace exists.

    Raises:
        InputError: it does not exist.
    """
    if not workspace.is_dir():
        raise InputError(f"--workspace {workspace}: folder not found. Create it, or give another.")


def check_router(workspace: Workspace) -> None:
    """Check that the workspace has a router.

    Raises:
        InputError: it has none; the message names the first stage that has not run.
    """
    if not workspace.router.exists():
        from catimage.commands.prerequisites import check_prerequisites
        from catimage.params import load_params

        check_prerequisites(workspace, load_params(workspace.params), "route")


def decoded(name: str, text: str) -> str:
    """Return an argument as text in UTF-8, whatever the locale is.

    Python decodes arguments by the locale, and keeps bytes that it cannot decode as surrogates.

    Args:
        name: the name of the argument, for the message.
        text: the argument.

    Raises:
        InputError: the bytes of the argument are not UTF-8.
    """
    try:
        return os.fsencode(text).decode()
    except UnicodeError as error:
        raise InputError(f"{name}: not valid UTF-8. Write the text in UTF-8.") from error


def finite_number(name: str, text: str | None) -> float | None:
    """Return the value of an option that has to be a finite number; None if it is omitted.

    Raises:
        InputError: it is not a finite number.
    """
    try:
        number = None if text is None else float(text)
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise InputError(f"{name} {text}: must be a finite number. Correct it.")
    return number


def whole_number(name: str, text: str | None) -> int | None:
    """Return the value of an option that has to be a whole number; None if it is omitted.

    Raises:
        InputError: it is not a whole number.
    """
    try:
        return None if text is None else int(text)
    except ValueError:
        raise InputError(f"{name} {text}: must be a whole number. Correct it.") from None


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows that have the same keys, as a table or as one JSON document."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        from catimage.common.formatting import format_table

        cells = [
            [f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
        ]
        header = list(rows[0])
        typer.echo("\n".join(format_table(header, cells, align="l" * len(header), rule=False)))

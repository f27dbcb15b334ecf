"""The command line: options, output formats and start-up."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.cli.options import load_workspace, print_rows
from catimage.cli.stages import COMMANDS
from catimage.errors import InputError
from catimage.workspace import STAGES

SLOW = {"torch", "pandas", "scipy", "sklearn", "diffusers", "open_clip", "great_expectations"}
"""Packages that are slow to import."""


def test_help_imports_no_slow_packages():
    code = "import sys; import catimage.cli.app; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert SLOW.isdisjoint(modules.stdout.decode().split())


def test_every_stage_has_a_command_in_the_order_of_the_stages():
    assert tuple(command.__name__ for command in COMMANDS) == ("sources", *STAGES)
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    positions = [result.output.index(f" {stage} ") for stage in STAGES]
    assert positions == sorted(positions)


def test_missing_workspace_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--workspace .*missing: folder not found"):
        load_workspace(tmp_path / "missing", None)


def test_rows_are_printed_as_a_table(capsys):
    print_rows([{"name": "a", "cost": 1 / 3}, {"name": "bcd", "cost": None}], as_json=False)
    assert capsys.readouterr().out == "name  cost\na     0.333333\nbcd   None\n"


def test_no_rows_print_nothing_or_an_empty_list(capsys):
    print_rows([], as_json=False)
    assert capsys.readouterr().out == ""
    print_rows([], as_json=True)
    assert capsys.readouterr().out == "[]\n"

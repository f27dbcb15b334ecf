"""The command ``route``: prompts from arguments, files and pipes, and options."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.errors import InputError
from tests.trained_workspace import train_workspace

PROMPTS = ["plain sage number 5", "crowded sage number 6"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return train_workspace(tmp_path_factory.mktemp("route"))[0].root


@pytest.fixture
def route(workspace):
    """Return a function that runs the command and returns its rows."""

    def run(*arguments, stdin=None):
        command = ["route", "--workspace", str(workspace), "--json", *map(str, arguments)]
        result = CliRunner().invoke(app, command, input=stdin)
        if isinstance(result.exception, InputError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def prompts_of(rows):
    return [row["prompt"] for row in rows]


def test_prompts_are_read_from_arguments_files_and_pipes(route, tmp_path):
    lines, text = tmp_path / "prompts.txt", "\n".join(PROMPTS) + "\n\n"
    lines.write_text(text)
    cost = ["--lambda", "0.05"]
    expected = route(*PROMPTS, *cost)
    assert [row["candidate"] for row in expected] == ["mini-1", "mini-4"]
    assert route("--file", lines, *cost) == expected
    assert route("--file", "-", *cost, stdin=text) == expected
    assert route("-", *cost, stdin=text) == expected
    assert route(*cost, stdin=text.replace("\n", "\r\n")) == expected
    assert prompts_of(route("a moon", "--file", lines)) == ["a moon", *PROMPTS]


def test_tables_of_prompts_are_read_and_repeated_prompts_are_kept(route, tmp_path):
    table = pd.DataFrame({"id": [1, 2, 3], "prompt": [*PROMPTS, PROMPTS[0]]})
    table.to_csv(tmp_path / "p.csv", index=False)
    table.to_json(tmp_path / "p.jsonl", orient="records", lines=True)
    table.to_parquet(tmp_path / "p.parquet", index=False)
    for name in ("p.csv", "p.jsonl", "p.parquet"):
        assert prompts_of(route("--file", tmp_path / name)) == [*PROMPTS, PROMPTS[0]]


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["@prompts.txt"], None, r"^@prompts\.txt: not a prompt\. Use --file prompts\.txt to read"),
        (["-", "a moon"], "a ring", "^-: standard input cannot be combined"),
        (["-", "--file", "x.txt"], "a ring", "^-: standard input cannot be combined"),
        ([], "", "^standard input: the file is empty"),
        (["-"], b"a ring\ncaf\xe9\n", "^standard input: row 2 is not UTF-8"),
        (["--file", "missing.txt"], None, r"^missing\.txt: file not found\. Check the path"),
        (["a", " "], None, r"^prompt 2: the prompt is empty"),
        (["caf\udce9"], None, r"^prompt 1: not valid UTF-8\. Write the text in UTF-8"),
    ],
)
def test_prompts_that_cannot_be_read_are_refused(route, arguments, stdin, message):
    with pytest.raises(InputError, match=message):
        route(*arguments, stdin=stdin)


def test_a_terminal_is_not_read(route, monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    from catimage.commands import route_prompts

    monkeypatch.setattr(route_prompts.sys, "stdin", Terminal())
    with pytest.raises(InputError, match=r"^PROMPT: missing\. Give prompts, --file PROMPTS, or"):
        route_prompts.read_prompts([], None)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "much", "60%", ""])
def test_a_budget_and_a_lambda_have_to_be_finite_numbers(route, value):
    for option in ("--budget", "--lambda"):
        with pytest.raises(InputError, match=f"^{option} {value}: must be a finite number. Corr"):
            route("a moon", option, value)


def test_invalid_numbers_are_refused(route):
    with pytest.raises(InputError, match=r"^budget: 0 is below the cost of the cheapest"):
        route("a moon", "--budget", "-0.0")
    with pytest.raises(InputError, match=r"^lambda: must be a number of 0 or more, not -1"):
        route("a moon", "--lambda", "-1")
    with pytest.raises(InputError, match=r"^--seed 1\.5: must be a whole number\. Correct it"):
        route("a moon", "--seed", "1.5")


def test_a_missing_workspace_is_named_before_its_router():
    result = CliRunner().invoke(app, ["route", "a moon", "--workspace", "nowhere"])
    assert str(result.exception).startswith("--workspace nowhere: folder not found.")


def test_a_seed_makes_the_decisions_of_a_randomized_rule_repeatable(route):
    """A budget between two points of the curve has a rule with two lambdas."""
    requests = ["plain sage number 5"] * 200
    rows = route(*requests, "--budget", "1.7", "--seed", "3")
    assert rows == route(*requests, "--budget", "1.7", "--seed", "3")
    lambdas = [row["lambda"] for row in rows]
    other = [row["lambda"] for row in route(*requests, "--budget", "1.7", "--seed", "4")]
    random = [row["lambda"] for row in route(*requests, "--budget", "1.7")]
    assert len(set(lambdas)) == 2
    assert lambdas != other
    assert random not in (lambdas, other)


ROUTE_IN_TURN = """
import sys
from catimage.cli.app import main
*prompts, workspace = sys.argv[1:]
for prompt in prompts:
    sys.argv = ["catimage", "route", prompt, "--workspace", workspace]
    try:
        main()
    except SystemExit as end:
        print("status", end.code or 0, flush=True)
"""


def run_in_ascii_locale(workspace, *prompts):
    """Run a command per prompt in an ASCII locale without Python's UTF-8 mode."""
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    env.pop("PYTHONIOENCODING", None)
    command = [sys.executable, "-c", ROUTE_IN_TURN, *prompts, str(workspace)]
    return subprocess.run(command, env=env, capture_output=True, check=True)


def test_prompts_in_utf_8_are_routed_in_an_ascii_locale_and_other_bytes_are_refused(workspace):
    result = run_in_ascii_locale(workspace, "模型 plain".encode(), b"caf\xe9")
    *_, routed, first_status, second_status = result.stdout.decode().splitlines()
    assert (first_status, second_status) == ("status 0", "status 2")
    assert routed.rstrip().endswith("模型 plain")
    assert result.stderr == b"catimage: prompt 1: not valid UTF-8. Write the text in UTF-8.\n"

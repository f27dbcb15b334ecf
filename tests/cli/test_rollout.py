"""Arguments and output of the commands ``promote`` and ``rollback``."""

import json

import pytest
from typer.testing import CliRunner

from catimage.cli import rollout
from catimage.cli.app import app
from catimage.commands.rollout import RolloutSummary
from catimage.errors import InputError


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "VERSION: missing"),
        (["3", "--challenger"], "--challenger: cannot be combined with VERSION"),
        (["3", "--end-canary"], "--end-canary: has no VERSION"),
        (["3", "--force", " "], "--force: needs a reason"),
        (["3", "--shadow", "--force", "x"], "--force: needs a reason, and no --shadow"),
        (["3", "--canary", "1.5"], "--canary: 1.5 is not above 0 and at most 1"),
        (["3", "--canary", "0"], "--canary: 0 is not above 0 and at most 1"),
        (["3", "--canary", "nan"], "--canary"),
    ],
)
def test_invalid_arguments_are_refused_with_a_sentence(arguments, problem):
    error = CliRunner().invoke(app, ["promote", *arguments]).exception
    assert isinstance(error, InputError)
    assert str(error).startswith(problem)


def test_the_output_says_what_is_served(capsys):
    summary = RolloutSummary("champion", "3", "2", "it is better", ("a", "b"), True)
    rollout._print(summary, False)
    assert capsys.readouterr().out.splitlines() == [
        "router version 3 (champion): it is better",
        "in use by 2 replicas: a, b",
    ]
    rollout._print(RolloutSummary("champion", "3", "2", "it is better", (), True), False)
    assert "no service is running" in capsys.readouterr().out
    rollout._print(summary, True)
    assert json.loads(capsys.readouterr().out)["replicas"] == ["a", "b"]

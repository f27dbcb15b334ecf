"""Wrong arguments are reported as one sentence, without the usage box of typer."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest


def catimage(*arguments, **variables):
    """Run the command line in a process."""
    return subprocess.run(
        [sys.executable, "-m", "catimage.cli.app", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "no such command 'nosuch'. Run 'catimage --help'."),
        (["scor"], "no such command 'scor'. Did you mean 'score'? Run 'catimage --help'."),
        (["sample", "--foo"], "no such option: --foo. Run 'catimage sample --help'."),
        (["costs", "--repeats", "x"], "'--repeats': must be a whole number. Run 'catimage costs"),
        (["costs", "--repeats", "0"], "'--repeats': must be 1 or more. Run 'catimage costs --h"),
        (["score", "--prompt", "x"], "missing argument 'IMAGE...'. Run 'catimage score --help'."),
        (["pool", "check", "tinny"], "(did you mean 'tiny'?). Use one of flux, "),
    ],
)
def test_a_wrong_argument_gives_one_sentence_and_status_2(arguments, message):
    result = catimage(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("catimage: ") and result.stderr.count("\n") == 1
    assert message in result.stderr


def test_the_version_is_printed():
    result = catimage("--version")
    assert (result.returncode, result.stdout) == (0, f"catimage {version('catimage')}\n")


def test_without_a_command_the_help_is_printed():
    result = catimage()
    assert result.returncode == 2 and "import-scores" in result.stdout and result.stderr == ""

"""``make serve``: the code of the Bento, and the address."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from catimage.errors import InputError
from catimage.serving.bento.__main__ import unpacked_code
from catimage.workspace import Workspace

ROOT = Path(__file__).parents[3]


def test_the_code_of_the_bento_is_unpacked_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    wheels = workspace.dist / "bento" / "env" / "python" / "wheels"
    wheels.mkdir(parents=True)
    with pytest.raises(InputError, match="no wheel of CATImage"):
        unpacked_code(workspace)
    with ZipFile(wheels / "catimage-0.1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("catimage/__init__.py", "code = 1\n")
    code = unpacked_code(workspace)
    assert (code / "catimage" / "__init__.py").read_text() == "code = 1\n"
    changed = code / "catimage" / "__init__.py"
    changed.write_text("")
    assert unpacked_code(workspace) == code and changed.read_text() == ""


def test_without_a_bento_the_command_says_how_to_make_one(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "catimage.serving.bento", "--workspace", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "bento.json: not found. Run 'make demo' or 'catimage package' first." in run.stderr


@pytest.mark.parametrize(("arguments", "host"), [([], "127.0.0.1"), (["HOST=0.0.0.0"], "0.0.0.0")])
def test_make_serve_listens_on_the_loopback_interface_by_default(
    arguments: list[str], host: str
) -> None:
    run = subprocess.run(
        ["make", "--dry-run", "serve", *arguments],
        cwd=ROOT,
        env={**os.environ, "HOST": "name-of-the-machine"},
        capture_output=True,
        text=True,
    )
    assert f"-m catimage.serving.bento --host {host} --port 3000" in run.stdout


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("CATIMAGE_SERVING__EXPLORE", "2", "CATIMAGE_SERVING__EXPLORE: "),
        ("CATIMAGE_SERVING__FOO", "1", "CATIMAGE_SERVING__FOO: unknown key of the section"),
        ("CATIMAGE_STATE_URL", "mysql://x/y", "CATIMAGE_STATE_URL: the database 'mysql' is not"),
    ],
)
def test_a_wrong_variable_ends_the_command_before_the_service_is_started(
    tmp_path: Path, variable: str, value: str, problem: str
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "catimage.serving.bento", "--workspace", str(tmp_path)],
        env={**os.environ, variable: value},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and problem in run.stderr and "Serving" not in run.stdout

"""The wheel of the running code: pip installs it, and its code runs without the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path

import pytest

from catimage.common.wheel import PACKAGE, build_wheel, pinned

SCRIPT = """
import json, sys
sys.path[:0] = sys.argv[1:]
import catimage
from importlib.metadata import distribution
from catimage.pool.loading import load_pool
pool = load_pool("tiny")
print(json.dumps([catimage.__file__, distribution("catimage").version, str(pool.file),
                  len(pool.candidates)]))
"""
"""Without the options -I and -S, Python would find the checkout of an editable installation."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the wheel, without its requirements."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(folder)
    options = ["--quiet", "--no-index", "--no-deps", "--target", str(folder / "installed")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    return folder / "installed"


def test_the_installed_wheel_runs_without_the_checkout(installed: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", SCRIPT, str(installed), get_path("purelib")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    module, number, pool, candidates = json.loads(output)
    assert Path(module) == installed / "catimage" / "__init__.py"
    assert Path(pool).is_relative_to(installed)
    assert number == version("catimage")
    assert candidates > 1


def test_the_wheel_has_every_file_of_the_package(installed: Path) -> None:
    files = {
        path.relative_to(PACKAGE).as_posix(): path
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(files) > 200
    for name, path in files.items():
        assert (installed / "catimage" / name).read_bytes() == path.read_bytes()
    info = next(installed.glob("catimage-*.dist-info"))
    assert (info / "entry_points.txt").is_file() and (info / "licenses" / "LICENSE").is_file()


def test_equal_code_gives_equal_bytes(tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    first, second = map(build_wheel, folders)
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_pins_have_no_local_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catimage.common.wheel.version", {"torch": "2.6.0+cpu"}.get)
    assert pinned("torch") == ["torch==2.6.0"]

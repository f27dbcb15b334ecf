"""``dvc exp run --queue``: the experiment's own code and data, in a copy of the repository."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.system.programs import wait_until
from tests.test_dvc import ROOT, STUB, git

STUB_WITH_DATA = STUB.replace(
    'Path("data/prompts.parquet").write_text("1")',
    'Path("data/prompts.parquet").write_text(Path("prompts.txt").read_text())',
)
"""The stage sample copies the prompts."""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with this project's pipeline and a replacement of the command line."""
    for name in ("dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".gitignore", ".dvcignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / ".dvc" / "plots", tmp_path / ".dvc" / "plots")
    app = tmp_path / "src" / "catimage" / "cli" / "app.py"
    app.parent.mkdir(parents=True)
    app.write_text(STUB_WITH_DATA)
    for folder in (app.parent, app.parents[1]):
        (folder / "__init__.py").write_text("")
    (tmp_path / "params.yaml").write_text("")
    (tmp_path / "prompts.txt").write_text("first")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    return tmp_path


def dvc(folder: Path, *arguments: str) -> str:
    identity = {f"GIT_{who}_{what}": "n" for who in ("COMMITTER", "AUTHOR") for what in ("NAME",)}
    identity |= {"GIT_COMMITTER_EMAIL": "e", "GIT_AUTHOR_EMAIL": "e"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env={**os.environ, **identity, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def output_digest(repository: Path, experiment: str) -> str:
    """Return the MD5 of the output of the stage sample, as ``dvc.lock`` of an experiment has it."""
    refs = git_output(repository, "for-each-ref", "refs/exps", "--format=%(refname)").split()
    (ref,) = [name for name in refs if name.endswith(f"/{experiment}")]
    lock = yaml.safe_load(git_output(repository, "show", f"{ref}:dvc.lock"))
    outputs = {out["path"]: out["md5"] for out in lock["stages"]["sample"]["outs"]}
    return str(outputs["data/prompts.parquet"])


def git_output(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_queued_experiment_runs_its_own_code_and_data(repository: Path) -> None:
    """The workspace is changed after the experiment was queued; it uses the queued versions."""
    app, prompts = repository / "src" / "catimage" / "cli" / "app.py", repository / "prompts.txt"
    app.write_text(STUB_WITH_DATA.replace("version 1", "version 2"))
    prompts.write_text("second")
    dvc(repository, "exp", "run", "--queue", "--name", "queued", "sample")
    app.write_text(STUB_WITH_DATA.replace("version 1", "version 3"))
    prompts.write_text("third")
    dvc(repository, "queue", "start")
    try:
        wait_until(lambda: "Success" in dvc(repository, "queue", "status"), "experiment", 120)
    finally:
        dvc(repository, "queue", "stop", "--kill")
    logs = dvc(repository, "queue", "logs", "queued")
    lines = [line for line in logs.splitlines() if line.startswith("code in")]
    assert len(lines) == 2 and all(line.endswith("version 2") for line in lines)
    assert all(f"{repository}/.dvc/tmp/exps/" in line for line in lines)
    shown = json.loads(dvc(repository, "exp", "show", "--json"))
    assert len(shown) == 2
    assert not (repository / "data").exists() and prompts.read_text() == "third"
    assert output_digest(repository, "queued") == hashlib.md5(b"second").hexdigest()

"""The command in the summary of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

from catimage.flows.artifacts import serve_command
from catimage.workspace import Workspace

ROOT = Path(__file__).parents[2]


def test_make_serves_only_where_a_makefile_can(tmp_path: Path) -> None:
    assert serve_command(Workspace(tmp_path)) == "python -m catimage.serving.bento"
    (tmp_path / "Makefile").write_text("all:\n\techo\n")
    assert serve_command(Workspace(tmp_path)) == "python -m catimage.serving.bento"
    shutil.copy(ROOT / "Makefile", tmp_path)
    assert serve_command(Workspace(tmp_path)) == "make serve"

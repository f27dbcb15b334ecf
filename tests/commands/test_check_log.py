"""The gate of the decision log before an intake."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from catimage.commands.check_log import check_log
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import Workspace
from tests.decision_rows import NOON, decision_row, save_decisions


def run(root: Path, sources: list[dict[str, object]]) -> int:
    (root / "params.yaml").write_text(yaml.safe_dump({"sample": {"sources": sources}}))
    workspace = Workspace(root)
    return check_log(workspace, load_params(workspace.params), NOON + timedelta(hours=1))


def test_rows_of_the_window_are_checked(tmp_path: Path) -> None:
    source: dict[str, object] = {"kind": "decisions", "days": 1, "folder": "log"}
    (tmp_path / "log").mkdir()
    rows = [decision_row(i, f"a red ring number {i}") for i in range(4)]
    save_decisions(tmp_path / "log", rows)
    assert run(tmp_path, [source]) == 4
    old = decision_row(-2000, "older than the window", cost=-1.0)
    save_decisions(tmp_path / "log", [old])
    assert run(tmp_path, [source]) == 4
    wrong = decision_row(5, "two blue cubes", propensities=[("mini-1", 0.5), ("mini-2", 0.1)])
    save_decisions(tmp_path / "log", [wrong])
    with pytest.raises(InputError, match="propensities that do not add up to 1 in 1"):
        run(tmp_path, [source])
    assert (tmp_path / ".catimage" / "decision_docs" / "index.html").exists()
    assert run(tmp_path, [{"kind": "scenes", "count": 10}]) == 0, "the log is not used"

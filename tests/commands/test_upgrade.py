"""``catimage upgrade`` on stored files of the release without formats (``fixtures/format_1``)."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml

from catimage.commands.init import TEMPLATES
from catimage.commands.upgrade import upgrade
from catimage.common.workspace_format import (
    FORMAT_FILE,
    WORKSPACE_FORMAT,
    workspace_format,
)
from catimage.errors import InputError
from catimage.params import load_params
from catimage.router import Router
from catimage.serving.state.store import State
from catimage.serving.state.tables import SCHEMA_VERSION
from catimage.workspace import Workspace

STORED = Path(__file__).parents[1] / "fixtures" / "format_1"
SECRET = "cat-ddf3d3715b3a-lg71l-Dz9w1tOXYunXfRasbja0EAjnPTz1WqmrEz05A"
"""The secret of the first key in ``state.sql``."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The stored workspace, with the stored state of its service."""
    database = tmp_path / "state.db"
    monkeypatch.setenv("CATIMAGE_STATE_URL", f"sqlite:///{database}")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript((STORED / "state.sql").read_text())
    return Workspace(shutil.copytree(STORED / "workspace", tmp_path / "workspace"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def open_state() -> State:
    return State.open(os.environ["CATIMAGE_STATE_URL"])


def stored_spending(workspace: Workspace) -> list[tuple[str, str, float]]:
    with closing(sqlite3.connect(workspace.root.parent / "state.db")) as connection:
        return connection.execute("SELECT * FROM catimage_spending").fetchall()


def test_a_dry_run_lists_the_changes_and_changes_nothing(workspace: Workspace) -> None:
    folder = workspace.root.parent
    before = contents(folder)
    steps = upgrade(workspace, apply=False)
    assert contents(folder) == before
    assert steps == [
        "params.yaml: generate.batch to generate.batch_size",
        "params.yaml: label.batch to label.batch_size",
        "params.yaml: setting rate of mlp to learning_rate",
        "params.yaml: setting hidden of mlp to hidden_layer_sizes",
        "params.yaml: setting patience of mlp to n_iter_no_change",
        "params.yaml: setting hidden of series to hidden_size",
        "dvc.yaml: the stages of this version",
        f"catimage.json: format 1 to {WORKSPACE_FORMAT}",
        f"state of the service: schema 1 to {SCHEMA_VERSION}",
        "state of the service: column rate of catimage_keys to rate_limit",
    ]


def test_the_files_are_migrated_and_keep_comments(workspace: Workspace) -> None:
    with pytest.raises(InputError, match=r"now called 'generate\.batch_size'"):
        load_params(workspace.params)
    old = contents(workspace.root)
    assert upgrade(workspace)
    params = load_params(workspace.params)
    assert (params.generate.batch_size, params.label.batch_size) == (16, 32)
    mlp, series = params.train.estimators[1:]
    assert mlp.settings == {
        "learning_rate": 1e-3,
        "hidden_layer_sizes": [64],
        "n_iter_no_change": 5,
    }
    assert series.settings == {"hidden_size": 32}
    text = workspace.params.read_text()
    assert "# of the most expensive candidate" in text and "# images per batch" in text
    pipeline = yaml.safe_load((workspace.root / "dvc.yaml").read_text())
    assert "data/traffic" in str(pipeline["stages"]["sources"]["outs"])
    assert pipeline["stages"]["train"]["cmd"] == "PYTHONPATH=src catimage train"
    assert workspace_format(workspace.root) == WORKSPACE_FORMAT
    kept = workspace.root / ".catimage" / "format-1"
    assert {name: (kept / name).read_bytes() for name in old} == old
    assert upgrade(workspace) == []


def test_a_damaged_format_is_removed_and_written_again(workspace: Workspace) -> None:
    upgrade(workspace)
    path, before = workspace.root / FORMAT_FILE, contents(workspace.root)
    text = path.read_text()
    path.write_text(text[:5])
    with pytest.raises(
        InputError, match=r"damaged\. .* or remove it and run 'catimage upgrade'\.$"
    ):
        upgrade(workspace)
    path.unlink()
    assert upgrade(workspace) == [f"catimage.json: format 1 to {WORKSPACE_FORMAT}"]
    assert path.read_text() == text and contents(workspace.root) == before


def test_the_state_is_migrated_and_keys_and_budgets_go_on(workspace: Workspace) -> None:
    with pytest.raises(InputError, match=r"\(schema 1\)\. .* run 'catimage upgrade'\.$") as error:
        open_state()
    assert "\n" not in str(error.value)
    upgrade(workspace)
    state = open_state()
    key = state.keys.verify(SECRET)
    assert key is not None
    assert (key.name, key.budget, key.ceiling) == ("team-a", 0.5, 50.0)
    assert key.rate_limit == "60/minute"
    assert stored_spending(workspace) == [(key.key_id, "2025-11", 1.25)]
    budget = state.budgets.read("service")
    assert budget is not None and (budget.lam, budget.cost) == (0.02, 3.5)
    state.close()


def test_a_state_with_the_present_columns_needs_no_command(workspace: Workspace) -> None:
    """Those of later revisions of the release have schema 1 and the new name."""
    database = workspace.root.parent / "state.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ALTER TABLE catimage_keys RENAME COLUMN rate TO rate_limit")
    open_state().close()
    query = "SELECT value FROM catimage_meta WHERE name = 'schema_version'"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(query).fetchone() == (str(SCHEMA_VERSION),)


def test_nothing_is_changed_if_the_parameters_remain_invalid(workspace: Workspace) -> None:
    workspace.params.write_text("generate: {batch: 2}\nbudgets: 3\n")
    before = contents(workspace.root.parent)
    with pytest.raises(InputError, match="unknown key 'budgets'"):
        upgrade(workspace)
    assert contents(workspace.root.parent) == before


def test_stages_of_the_user_and_unreadable_routers_are_left_to_the_user(
    workspace: Workspace,
) -> None:
    path = workspace.root / "dvc.yaml"
    path.write_text(path.read_text().replace("catimage train", "my-train"))
    workspace.router.mkdir(parents=True)
    (workspace.router / "router.json").write_text('{"format": 1}')
    by_hand = [step for step in upgrade(workspace) if step.startswith("by hand: ")]
    assert len(by_hand) == 2
    assert f"dvc.yaml differs from {TEMPLATES / 'dvc.yaml'}" in by_hand[0]
    assert "an older version of CATImage wrote this router (format 1;" in by_hand[1]
    assert "my-train" in path.read_text()


def test_a_workspace_without_a_service_creates_no_database(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace.root / "none" / "state.db"
    monkeypatch.setenv("CATIMAGE_STATE_URL", f"sqlite:///{path}")
    assert not any("service" in step for step in upgrade(workspace))
    assert not path.parent.exists()


def test_a_router_of_the_release_is_read() -> None:
    """The expected predictions are those of the code that wrote it."""
    router = Router.load(STORED / "router")
    prompts = ["plain amber basil number 4", "crowded dune heath number 17"]
    expected = [
        [0.509202029552, 0.550955081251, 0.640669189248],
        [0.442269747743, 0.52841584186, 0.656289444739],
    ]
    np.testing.assert_allclose(router.predict(prompts), expected, atol=1e-9)
    assert [d.candidate for d in router.route(prompts, seed=0)] == ["mini-1", "mini-1"]
    assert [d.candidate for d in router.route(prompts, lam=0.02)] == ["mini-4", "mini-4"]

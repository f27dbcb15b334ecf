"""``remove-candidate`` is the inverse of ``add-candidate``, and changes everything or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from catimage.commands import add_candidate, remove_candidate
from catimage.commands.candidate_request import CandidateRequest
from catimage.common import transaction
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table
from catimage.data.shards.lock import write_lock
from catimage.data.shards.manifest import ShardEntry, read_manifest, write_manifest
from catimage.errors import InputError
from catimage.params import load_params
from catimage.router import Router
from catimage.stages import calibrate
from catimage.workspace import Workspace
from tests.commands.test_add_candidate import calibrated_workspace, rows_of, write
from tests.commands.test_add_candidate_atomic import content, failing_at, raise_full
from tests.provenance import mark_validated, record_inputs

__all__ = ["calibrated_workspace"]

PROMPT = ["plain scene number 3", "crowded scene number 8"]


@pytest.fixture
def imported(calibrated_workspace: Workspace, tmp_path: Path) -> Workspace:
    """A workspace of imported scores of two candidates."""
    return Workspace(shutil.copytree(calibrated_workspace.root, tmp_path / "w"))


@pytest.fixture
def pooled(calibrated_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace of the miniature pool with three candidates; its tables are not validated."""
    monkeypatch.setattr(remove_candidate.validate, "run", lambda staged, _: mark_validated(staged))
    workspace = Workspace(shutil.copytree(calibrated_folder, tmp_path / "pooled"))
    path = workspace.pools / "miniature.yaml"
    path.write_text("# the pool of the test\n" + path.read_text())
    return workspace


def remove(workspace: Workspace, name: str) -> None:
    remove_candidate.run(workspace, load_params(workspace.params), name)


def scores_of(workspace: Workspace) -> pd.DataFrame:
    return read_table(workspace.scores, SCORES, "label")


def test_the_router_is_again_as_before_the_candidate_was_added(
    imported: Workspace, tmp_path: Path
) -> None:
    before, scores = Router.load(imported.router), scores_of(imported)
    table = read_table(imported.prompts, PROMPTS, "sample").query("split == 'train'")
    rows = rows_of(table["prompt"].tolist()[:40], ["new"], ("quality", "error"), seed=1)
    costs = write(tmp_path / "cost.csv", [["new", 3, "seconds"]], ("candidate", "cost", "unit"))
    request = CandidateRequest("new", 40, write(tmp_path / "new.csv", rows), costs)
    add_candidate.run(imported, load_params(imported.params), request)
    assert "new" in Router.load(imported.router).candidates
    remove(imported, "new")
    after = Router.load(imported.router)
    assert after.candidates == before.candidates
    np.testing.assert_allclose(after.predict(PROMPT), before.predict(PROMPT), rtol=1e-6)
    assert after.lam == pytest.approx(before.lam)
    pd.testing.assert_frame_equal(scores_of(imported), scores)
    calibrate.run(imported, load_params(imported.params))  # the outputs belong together


def test_the_pool_the_tables_and_the_router_lose_the_candidate(pooled: Workspace) -> None:
    scores = scores_of(pooled)
    remove(pooled, "mini-2")
    text = (pooled.pools / "miniature.yaml").read_text()
    assert text.startswith("# the pool of the test\n")
    names = [c["candidate"] for c in yaml.safe_load(text)["candidates"]]
    assert names == ["mini-1", "mini-4"] == Router.load(pooled.router).candidates
    table = read_table(pooled.candidates, CANDIDATES, "generate")
    assert table["candidate"].tolist() == ["mini-1", "mini-4"]
    others = scores[scores["candidate"] != "mini-2"].reset_index(drop=True)
    pd.testing.assert_frame_equal(scores_of(pooled), others)
    assert not (pooled.root / ".catimage" / "remove-candidate").exists()


def test_only_the_shards_of_the_candidate_are_deleted(
    pooled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [ShardEntry(f"shard-{i}", f"mini-{i}", 1, "digest") for i in (1, 2, 4)]
    write_manifest(pooled.images, entries)
    for entry in entries:
        (pooled.images / f"{entry.shard}.parquet").write_bytes(entry.shard.encode())
    record_inputs(pooled)

    def keep(staged: Workspace, params: object) -> None:
        """Copy the outputs of the workspace instead of computing them."""
        for source, target in (
            (pooled.estimators, staged.estimators),
            (pooled.router, staged.router),
            (pooled.reports, staged.reports),
        ):
            shutil.copytree(source, target, dirs_exist_ok=True)

    for stage in ("validate", "train", "calibrate"):
        monkeypatch.setattr(getattr(remove_candidate, stage), "run", keep)
    remove(pooled, "mini-2")
    files = {path.name: path.read_bytes() for path in pooled.images.glob("*.parquet")}
    assert files == {"shard-1.parquet": b"shard-1", "shard-4.parquet": b"shard-4"}
    assert read_manifest(pooled.images) == [entries[0], entries[2]]


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        (remove_candidate, "_write_tables", 1),
        (remove_candidate.validate, "run", 1),
        (remove_candidate.train, "run", 1),
        (remove_candidate.calibrate, "run", 1),
        (transaction, "_write_journal", 1),
        (transaction, "swap", 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_in_any_step_leaves_everything_unchanged(
    pooled: Workspace, monkeypatch: pytest.MonkeyPatch, module: object, function: str, call: int
) -> None:
    pool = (pooled.pools / "miniature.yaml").read_bytes()
    before = content(pooled)
    failing = failing_at(call, getattr(module, function), raise_full)
    monkeypatch.setattr(module, function, failing)
    with pytest.raises(OSError, match="No space left"):
        remove(pooled, "mini-2")
    assert content(pooled) == before
    assert (pooled.pools / "miniature.yaml").read_bytes() == pool
    assert not transaction.is_pending(pooled.root)


def test_candidates_that_are_unknown_or_needed_are_refused(pooled: Workspace) -> None:
    before = content(pooled)
    with pytest.raises(InputError, match=r"no candidate is called 'mini-3'.* Use one of mini-1,"):
        remove(pooled, "mini-3")
    for key in ("reference", "fallback"):
        params = load_params(pooled.params)
        serving = params.serving.model_copy(update={key: "mini-1"})
        with pytest.raises(InputError, match=f"serving.{key}: is 'mini-1'. Set another"):
            remove_candidate.run(pooled, params.model_copy(update={"serving": serving}), "mini-1")
    with (
        write_lock(pooled.scores),
        pytest.raises(InputError, match="another process is writing it"),
    ):
        remove(pooled, "mini-1")
    assert content(pooled) == before


def test_a_pool_that_is_not_in_the_workspace_is_not_changed(
    pooled: Workspace, tmp_path: Path
) -> None:
    shutil.move(pooled.pools / "miniature.yaml", tmp_path / "miniature.yaml")
    text = pooled.params.read_text().replace("pool: miniature", f"pool: {tmp_path}/miniature.yaml")
    pooled.params.write_text(text)
    before = content(pooled)
    with pytest.raises(InputError, match=r"has the candidate 'mini-1', and is not in .* Copy"):
        remove(pooled, "mini-1")
    assert content(pooled) == before


def test_the_last_two_candidates_stay(imported: Workspace) -> None:
    with pytest.raises(InputError, match="a router needs two candidates"):
        remove(imported, "cheap")
    assert json.loads((imported.router / "router.json").read_text())["candidates"] == [
        *("cheap", "expensive")
    ]

"""A change of prices reruns generate (for the candidates table), calibrate, evaluate and package.

No image is generated, no label scored and no estimator trained. A candidate with a cost in another
unit, or a price where there was none, also reruns validate, and train, which depends on its report.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from catimage.commands.sources import stage_sources
from catimage.data.provenance import ESTIMATORS, ROUTER, VALIDATION, Provenance
from catimage.data.schema import CANDIDATES, read_table, write_table
from catimage.errors import InputError
from catimage.params import Params, load_params
from catimage.router import Router
from catimage.stages import calibrate, evaluate
from catimage.workspace import STAGES, Workspace
from tests.miniature import pool_tree

ROOT = Path(__file__).parents[2]


def stages_to_run(before: dict[str, Any], after: dict[str, Any], changed: set[str]) -> list[str]:
    """Return the stages that DVC runs after a change of recorded inputs.

    Args:
        before: the recorded inputs before.
        after: the recorded inputs now.
        changed: the outputs that a stage writes with another content, if it runs.
    """
    outputs, run = set[str](), []
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        if name == "sources":
            continue
        if before[name] != after[name] or outputs & set(stage.get("deps", [])):
            run.append(name)
            own = [path for key in ("outs", "metrics") for o in stage.get(key, []) for path in o]
            outputs |= set(own) & changed
    return run


def with_pool(root: Path, **changes: Any) -> dict[str, Any]:
    """Write the miniature pool with changed keys; return the recorded inputs of the stages."""
    workspace = Workspace(root)
    workspace.pools.mkdir(exist_ok=True)
    tree: dict[str, Any] = pool_tree("sd") | {"usd_per_tflop": 0.001}
    for i, candidate in enumerate(tree["candidates"]):
        candidate |= {"cost": i + 1.0, "unit": "usd"} | changes.get(candidate["candidate"], {})
    tree |= {key: value for key, value in changes.items() if key in tree}
    tree = {key: value for key, value in tree.items() if value is not None}
    (workspace.pools / "miniature.yaml").write_text(yaml.safe_dump(tree))
    return stage_sources(workspace, Params.model_validate({"pool": "miniature"}))


PRICED = {"data/candidates.parquet", "models/router", "reports/metrics.json", "dist/bento"}
"""The outputs that contain costs."""


@pytest.mark.parametrize(
    "change", [{"mini-2": {"cost": 9.5}}, {"usd_per_tflop": 0.5}], ids=["candidate", "tflop"]
)
def test_a_new_price_runs_no_stage_that_needs_no_price(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    before, after = with_pool(tmp_path), with_pool(tmp_path, **change)
    expected = ["generate", "calibrate", "evaluate", "package"]
    assert stages_to_run(before, after, PRICED) == expected


def test_another_candidate_runs_all_stages_after_sample(tmp_path: Path) -> None:
    before, after = with_pool(tmp_path), with_pool(tmp_path, **{"mini-2": {"steps": 3}})
    everything = PRICED | {"data/images", "data/scores.parquet", "models/estimators"}
    assert stages_to_run(before, after, everything) == list(STAGES[1:])


@pytest.mark.parametrize(
    "change",
    [{"mini-2": {"unit": "tflops"}}, {"usd_per_tflop": None}],
    ids=["unit", "removed price"],
)
def test_costs_of_another_unit_score_no_image(tmp_path: Path, change: dict[str, Any]) -> None:
    before, after = with_pool(tmp_path), with_pool(tmp_path, **change)
    changed = PRICED | {"reports/validation.json", "models/estimators"}
    for old, new in ((before, after), (after, before)):
        stages = stages_to_run(old, new, changed)
        assert stages == [name for name in STAGES if name not in ("sample", "label")]


@pytest.fixture
def workspace(calibrated_folder: Path, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(calibrated_folder, tmp_path / "w"))


def set_costs(workspace: Workspace, **costs: float) -> None:
    table = read_table(workspace.candidates, CANDIDATES, "generate")
    table["cost"] = table["candidate"].str.replace("-", "_").map(costs)
    write_table(table.sort_values("cost"), workspace.candidates, CANDIDATES)


@pytest.mark.parametrize("costs", [(1.0, 3.0, 4.0), (5.0, 1.0, 2.0)], ids=["same order", "other"])
def test_the_estimators_stay_valid_in_any_order_of_the_costs(
    workspace: Workspace, costs: tuple[float, float, float]
) -> None:
    prompts = ["plain amber basil number 4", "crowded dune heath number 17"]
    before = Router.load(workspace.router)
    old = dict(zip(before.candidates, before.predict(prompts).T, strict=True))
    set_costs(workspace, mini_1=costs[0], mini_2=costs[1], mini_4=costs[2])
    provenance = Provenance(workspace)
    provenance.check(VALIDATION)
    provenance.check(ESTIMATORS)
    with pytest.raises(InputError, match=r"computed from another version of data/candidates"):
        provenance.check(ROUTER)
    params = load_params(workspace.params)
    calibrate.run(workspace, params)
    after = Router.load(workspace.router)
    assert after.candidates == sorted(old, key=lambda name: costs[list(old).index(name)])
    for name, values in zip(after.candidates, after.predict(prompts).T, strict=True):
        np.testing.assert_allclose(values, old[name])
    evaluate.run(workspace, params)


def test_another_unit_or_candidate_makes_the_estimators_out_of_date(workspace: Workspace) -> None:
    table = read_table(workspace.candidates, CANDIDATES, "generate")
    for column, value in (("unit", "usd"), ("steps", 7), ("candidate", "renamed")):
        changed = table.copy()
        changed.loc[0, column] = value
        write_table(changed, workspace.candidates, CANDIDATES)
        with pytest.raises(InputError, match="computed from another version of data/candidates"):
            Provenance(workspace).check(ESTIMATORS)

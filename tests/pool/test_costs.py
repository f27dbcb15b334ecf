"""Costs of candidates: counted terms, explicit costs, guidance and schedulers."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from catimage.pool.costs import candidate_costs
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from tests.miniature import STEPS, pool_tree


@pytest.fixture(scope="module")
def configuration_folder(miniature_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration files of the miniature pipeline, without weights."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copytree(
        miniature_pool.parent / "sd", folder / "sd", ignore=shutil.ignore_patterns("*.safetensors")
    )
    return folder


def _pool(
    folder: Path,
    candidates: list[dict[str, Any]] | None = None,
    costs: str = "counted",
    **changes: object,
) -> Pool:
    tree: dict[str, Any] = pool_tree("sd")
    tree["generators"]["mini"].update(changes)
    tree.update({"costs": costs, "candidates": candidates or tree["candidates"]})
    path = folder / f"{abs(hash(str(tree)))}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_pool(str(path))


def test_the_cost_is_the_sum_of_its_terms_and_grows_with_steps(configuration_folder: Path):
    rows = candidate_costs(_pool(configuration_folder))
    assert rows["candidate"].tolist() == [f"mini-{n}" for n in STEPS]
    assert set(rows["unit"]) == {"tflops"}
    pd.testing.assert_series_equal(
        rows["cost"], rows[["denoiser", "text_encoder", "decoder"]].sum(axis=1), check_names=False
    )
    assert rows["denoiser_calls"].tolist() == list(STEPS)
    assert (rows["denoiser"] / rows["steps"]).nunique() == 1
    tflops_per_pass = rows["denoiser"][0] / 2
    assert tflops_per_pass < 0.0003, "a forward pass of the denoiser must take at most 0.3 GFLOP"


def test_guidance_doubles_denoiser_and_text_encoder(configuration_folder: Path):
    guided = candidate_costs(_pool(configuration_folder))
    unguided = candidate_costs(_pool(configuration_folder, guidance=1.0))
    assert (guided["denoiser"] == 2 * unguided["denoiser"]).all()
    assert (guided["text_encoder"] == 2 * unguided["text_encoder"]).all()
    assert (guided["decoder"] == unguided["decoder"]).all()


def test_a_second_order_scheduler_calls_the_denoiser_more_often(configuration_folder: Path):
    rows = candidate_costs(_pool(configuration_folder, scheduler="HeunDiscreteScheduler"))
    assert rows["denoiser_calls"].tolist() == [2 * n - 1 for n in STEPS]


def test_explicit_costs_are_kept(configuration_folder: Path):
    candidates = [
        {"candidate": "a", "generator": "mini", "steps": 1, "cost": 7.0},
        {"candidate": "b", "generator": "mini", "steps": 2, "cost": 0.04, "unit": "usd"},
    ]
    mixed = candidate_costs(_pool(configuration_folder, candidates))
    assert mixed["unit"].tolist() == ["tflops", "tflops"]
    assert mixed["cost"][0] == 7.0
    assert mixed["cost"][1] < 0.01
    explicit = candidate_costs(_pool(configuration_folder, candidates, costs="explicit"))
    assert list(zip(explicit["cost"], explicit["unit"], strict=True)) == [
        (7.0, "tflops"),
        (0.04, "usd"),
    ]
    assert explicit["denoiser"].isna().all()

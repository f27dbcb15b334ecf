"""Schedulers and options that do not fit the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands.costs import cost_rows
from catimage.errors import InputError
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from tests.miniature import pool_tree


def _write_pool(folder: Path, weights: Path, changes: str) -> Path:
    """Write a pool file; ``changes`` are lines of YAML with settings of the generator."""
    tree: Any = pool_tree(str(weights))
    del tree["generators"]["mini"]["scheduler"]
    file = folder / "pool.yaml"
    text = yaml.safe_dump(tree).replace("    size:", f"    {changes}\n    size:")
    assert changes in text
    file.write_text(text)
    return file


UNSUITABLE = {
    "algorithm that does not end at zero": (
        "scheduler: DPMSolverMultistepScheduler\n"
        "    scheduler_options: {algorithm_type: dpmsolver}",
        r"\.scheduler_options: DPMSolverMultistepScheduler does not accept {algorithm_type: dp",
    ),
    "unknown beta schedule": (
        "scheduler_options: {beta_schedule: cosine}",
        r"\.scheduler_options: EulerDiscreteScheduler does not accept {beta_schedule: cosine}",
    ),
    "number in quotes": (
        "scheduler_options: {beta_start: '85e-5', beta_schedule: linear}",
        r"\.scheduler_options\.beta_start: is the text '85e-5'. Write the number 0\.00085",
    ),
    "word instead of a number": (
        "scheduler_options: {beta_start: low}",
        r"\.scheduler_options\.beta_start: 'low' is not a number",
    ),
    "word instead of true": (
        "scheduler_options: {use_karras_sigmas: yes}",
        r"\.scheduler_options\.use_karras_sigmas: 'yes' is not true or false",
    ),
    "scheduler for another kind of model": (
        "scheduler: CMStochasticIterativeScheduler",
        r"\.scheduler: CMStochasticIterativeScheduler fails",
    ),
}


@pytest.mark.parametrize(("changes", "message"), UNSUITABLE.values(), ids=UNSUITABLE)
def test_every_command_reports_an_unsuitable_scheduler_in_one_sentence(
    changes: str, message: str, miniature_pool: Path, tmp_path: Path
):
    file = _write_pool(tmp_path, miniature_pool.parent / "sd", changes)
    check = CliRunner().invoke(app, ["pool", "check", str(file), "--json"])
    assert check.exit_code == 1, check.output
    (problem,) = {row["problem"] for row in json.loads(check.stdout)}
    assert "\n" not in problem and problem.startswith(f"{file}: generators.mini.scheduler")
    with pytest.raises(InputError, match=message):
        raise InputError(problem)
    with pytest.raises(InputError) as costs:
        cost_rows(str(file), None)
    assert str(costs.value) == problem
    with pytest.raises(InputError, match=message):
        GeneratorCache(load_pool(str(file)), "cpu").prepare()


def test_numbers_in_exponential_notation_are_numbers(miniature_pool: Path, tmp_path: Path):
    file = _write_pool(
        tmp_path,
        miniature_pool.parent / "sd",
        "scheduler_options: {beta_start: 85e-5, beta_schedule: linear}",
    )
    pool = load_pool(str(file))
    assert CliRunner().invoke(app, ["pool", "check", str(file)]).exit_code == 0
    generator: Any = GeneratorCache(pool, "cpu").get("mini")
    generator.generate(["a red ring"], pool.candidates[0], [0])
    assert generator.pipeline.scheduler.config.beta_start == 0.00085


def test_weights_whose_own_scheduler_is_invalid_work_with_other_options(
    miniature_pool: Path, tmp_path: Path
):
    """Some weights have ``algorithm_type: deis`` with a final sigma that it does not support."""
    shutil.copytree(miniature_pool.parent / "sd", tmp_path / "sd")
    index_file = tmp_path / "sd" / "model_index.json"
    index = json.loads(index_file.read_text())
    index["scheduler"] = ["diffusers", "DPMSolverMultistepScheduler"]
    index_file.write_text(json.dumps(index))
    config_file = tmp_path / "sd" / "scheduler" / "scheduler_config.json"
    config = json.loads(config_file.read_text())
    config |= {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}
    config_file.write_text(json.dumps(config))
    broken = _write_pool(tmp_path, tmp_path / "sd", "licence: ''")
    check = CliRunner().invoke(app, ["pool", "check", str(broken), "--json"])
    assert check.exit_code == 1, check.output
    problem = json.loads(check.stdout)[0]["problem"]
    assert "mini.weights: the configuration of the scheduler in" in problem
    with pytest.raises(InputError, match=r"mini\.weights: the configuration of the scheduler"):
        GeneratorCache(load_pool(str(broken)), "cpu").get("mini")
    options = "scheduler_options: {final_sigmas_type: sigma_min}"
    file = _write_pool(tmp_path, tmp_path / "sd", options)
    assert CliRunner().invoke(app, ["pool", "check", str(file)]).exit_code == 0
    pool = load_pool(str(file))
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    assert cache.get("mini").generate(["a red ring"], pool.candidates[-1], [0]).max() > 0

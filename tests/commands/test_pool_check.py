import json
import shutil
import socket
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands.pool_check import check_rows, summary, verification_lines
from catimage.errors import InputError
from catimage.pool.loading import PACKAGED
from tests.miniature import pool_tree

NAMES = sorted(path.stem for path in PACKAGED.glob("*.yaml"))
SLOW = {"flux", "modern", "sd2", "sdxl", "tiny-full"}
"""Pools with several large models, or with more candidates of the same kinds."""


@pytest.fixture(autouse=True)
def _no_network_and_empty_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the check used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def _pool_file(folder: Path, change: dict[str, Any], **more: Any) -> str:
    """Write a pool with changed settings of its generator, and return the path of the file."""
    tree: Any = pool_tree("sd")
    tree["generators"]["mini"].update(change)
    (folder / "pool.yaml").write_text(yaml.safe_dump({**tree, **more}))
    return str(folder / "pool.yaml")


@cache
def checked(name: str) -> list[dict[str, Any]]:
    """Return the output of the command for a packaged pool. Cached, as some pools take seconds."""
    result = CliRunner().invoke(app, ["pool", "check", name, "--json"])
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def _marked(name: str) -> Any:
    """Mark the pools whose check takes seconds; hosted has a large model, too."""
    return pytest.param(name, marks=pytest.mark.system) if name in SLOW else name


@pytest.mark.parametrize("name", [_marked(name) for name in NAMES])
def test_packaged_pools_have_no_problem(name: str):
    rows = checked(name)
    names = [
        c["candidate"]
        for c in yaml.safe_load((PACKAGED / f"{name}.yaml").read_text())["candidates"]
    ]
    assert [row["candidate"] for row in rows] == names
    for row in rows:
        assert not row["problem"]
        assert row["cost"] > 0
        assert row["revision"]
        assert row["memory_gb"] is None if row["kind"] == "hosted" else row["memory_gb"] > 0
        assert row["licence"] or name.startswith("tiny")
        assert (row["weights"] == "available") is name.startswith("tiny")


def test_memory_is_weights_and_activations(miniature_pool: Path):
    """The estimate is between the size of the weights and that size plus 0.1 GB."""
    row, *_ = check_rows(str(miniature_pool), None)
    weights = (
        sum(f.stat().st_size for f in (miniature_pool.parent / "sd").rglob("*.safetensors")) / 1e9
    )
    assert weights < row["memory_gb"] < weights + 0.1
    assert row["weights"] == "available"
    assert len(row["revision"]) == 12


def test_memory_follows_dtype_and_size(miniature_pool: Path, tmp_path: Path):
    shutil.copytree(miniature_pool.parent / "sd", tmp_path / "sd")

    def memory(change: dict[str, Any]) -> float:
        row, *_ = check_rows(_pool_file(tmp_path, change), None)
        return float(row["memory_gb"])

    single, half = memory({}), memory({"dtype": "float16"})
    assert half == pytest.approx(single / 2, abs=0.001)
    assert memory({"size": 256}) > single + 0.001


@pytest.mark.system
def test_memory_of_sdxl_follows_dtype_and_size():
    rows = {row["candidate"]: row["memory_gb"] for row in checked("sdxl")}
    assert 7 < rows["sdxl-turbo"] < rows["sdxl-22"] < 12  # 6.9 GB of weights in half precision


def test_missing_weights_are_reported_without_a_problem(miniature_pool: Path, tmp_path: Path):
    shutil.copytree(miniature_pool.parent / "sd", tmp_path / "sd")
    (tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    row, *_ = check_rows(_pool_file(tmp_path, {}), None)
    assert row["weights"] == f"unet/*.safetensors not found in {tmp_path / 'sd'}"
    hub_settings = {
        "weights": "someone/model",
        "revision": "0" * 40,
        "configuration": "sd",
        "parts": {"unet": {"weights": "a/b", "revision": "1" * 40}},
    }
    rows = check_rows(_pool_file(tmp_path, hub_settings), None)
    assert rows[0]["weights"] == "not in the hub's cache; unet not in the hub's cache"
    assert rows[0]["revision"] == f"{'0' * 12} unet={'1' * 12}"
    assert summary(rows).startswith(
        "3 candidates of 1 generators: no problem; weights available for 0"
    )


def test_weights_in_the_hub_cache_are_available(miniature_pool: Path, tmp_path: Path):
    snapshot = tmp_path / "hub" / "models--someone--model" / "snapshots" / ("0" * 40)
    shutil.copytree(miniature_pool.parent / "sd", snapshot)
    row, *_ = check_rows(
        _pool_file(tmp_path, {"weights": "someone/model", "revision": "0" * 40}), None
    )
    assert (row["weights"], row["problem"]) == ("available", "")
    assert row["cost"] > 0


def test_problem_is_reported_with_exit_status_1(miniature_pool: Path, tmp_path: Path):
    tree: Any = pool_tree(str(miniature_pool.parent / "sd"))
    tree["generators"]["other"] = {
        **tree["generators"]["mini"],
        "weights": "someone/model",
        "revision": "0" * 40,
    }
    tree["candidates"].append({"candidate": "other-1", "generator": "other", "steps": 1})
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(tree))
    result = CliRunner().invoke(app, ["pool", "check", str(tmp_path / "pool.yaml"), "--json"])
    assert result.exit_code == 1
    *valid_rows, invalid_row = json.loads(result.stdout)
    assert (
        "generators.other.weights: the configuration files of 'someone/model' are not on this"
        " machine" in invalid_row["problem"]
    )
    assert (invalid_row["cost"], invalid_row["weights"]) == (None, "")
    assert all(not row["problem"] and row["cost"] > 0 for row in valid_rows)
    text = CliRunner().invoke(app, ["pool", "check", str(tmp_path / "pool.yaml")])
    assert (
        text.stdout.strip()
        .splitlines()[-1]
        .startswith("4 candidates of 2 generators: 1 with a problem; weights available for 1")
    )


def test_invalid_pool_file_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="unknown key 'colour'"):
        check_rows(_pool_file(tmp_path, {}, colour="red"), None)


def test_kinds_that_have_not_been_run_completely_are_listed():
    generator_kinds = ("diffusers", "infinity", "infinity", "distrifusion", "hosted")
    lines = verification_lines([{"kind": kind} for kind in generator_kinds])
    assert [line.partition(":")[0] for line in lines] == ["infinity", "distrifusion"]
    assert all(line.endswith(".") for line in lines)

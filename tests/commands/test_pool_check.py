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
from catimage.commands.pool_check import check_rows, summary
from catimage.errors import InputError
from catimage.pool.loading import PACKAGED
from tests.miniature import pool_tree

NAMES = sorted(path.stem for path in PACKAGED.glob("*.yaml"))


@pytest.fixture(autouse=True)
def _no_network_and_nothing_in_the_hubs_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a check asks no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def _file(folder: Path, change: dict[str, Any], **more: Any) -> str:
    tree: Any = pool_tree("sd")
    tree["generators"]["mini"].update(change)
    (folder / "pool.yaml").write_text(yaml.safe_dump({**tree, **more}))
    return str(folder / "pool.yaml")


@cache
def checked(name: str) -> list[dict[str, Any]]:
    """What the command prints of a shipped pool; counting a large one takes seconds."""
    printed = CliRunner().invoke(app, ["pool", "check", name, "--json"])
    assert printed.exit_code == 0, printed.output
    rows: list[dict[str, Any]] = json.loads(printed.stdout)
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_pool_is_checked_offline_one_line_a_candidate(name: str):
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
        assert (row["weights"] == "at hand") is name.startswith("tiny")


def test_memory_is_weights_and_activations(miniature_pool: Path):
    """The estimate lies between the weights alone and a generous allowance, and halves with the
    bytes of a number.
    """
    row, *_ = check_rows(str(miniature_pool), None)
    weights = (
        sum(f.stat().st_size for f in (miniature_pool.parent / "sd").rglob("*.safetensors")) / 1e9
    )
    assert weights < row["memory_gb"] < weights + 0.1
    assert row["weights"] == "at hand"
    assert len(row["revision"]) == 12


def test_memory_follows_dtype_and_size():
    rows = {row["candidate"]: row["memory_gb"] for row in checked("sdxl")}
    assert 7 < rows["sdxl-turbo"] < rows["sdxl-22"] < 12  # 6.9 GB of weights in half precision


def test_what_is_not_at_hand_is_said_and_is_no_problem(miniature_pool: Path, tmp_path: Path):
    shutil.copytree(miniature_pool.parent / "sd", tmp_path / "sd")
    (tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    row, *_ = check_rows(_file(tmp_path, {}), None)
    assert row["weights"] == f"{tmp_path / 'sd'} has no unet/*.safetensors"
    hub = {
        "weights": "someone/model",
        "revision": "0" * 40,
        "configuration": "sd",
        "parts": {"unet": {"weights": "a/b", "revision": "1" * 40}},
    }
    rows = check_rows(_file(tmp_path, hub), None)
    assert rows[0]["weights"] == "not in the hub's cache; unet not in the hub's cache"
    assert rows[0]["revision"] == f"{'0' * 12} unet={'1' * 12}"
    assert summary(rows).startswith(
        "3 candidates of 1 generators: no problem; weights at hand for 0"
    )


def test_weights_in_the_hubs_cache_are_at_hand(miniature_pool: Path, tmp_path: Path):
    snapshot = tmp_path / "hub" / "models--someone--model" / "snapshots" / ("0" * 40)
    shutil.copytree(miniature_pool.parent / "sd", snapshot)
    row, *_ = check_rows(_file(tmp_path, {"weights": "someone/model", "revision": "0" * 40}), None)
    assert (row["weights"], row["problem"]) == ("at hand", "")
    assert row["cost"] > 0


def test_a_problem_of_one_generator_is_in_its_lines_and_gives_exit_code_1(
    miniature_pool: Path, tmp_path: Path
):
    tree: Any = pool_tree(str(miniature_pool.parent / "sd"))
    tree["generators"]["other"] = {
        **tree["generators"]["mini"],
        "weights": "someone/model",
        "revision": "0" * 40,
    }
    tree["candidates"].append({"candidate": "other-1", "generator": "other", "steps": 1})
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(tree))
    printed = CliRunner().invoke(app, ["pool", "check", str(tmp_path / "pool.yaml"), "--json"])
    assert printed.exit_code == 1
    *good, bad = json.loads(printed.stdout)
    assert (
        "generators.other.weights: the configuration files of 'someone/model' are not on this"
        " machine" in bad["problem"]
    )
    assert (bad["cost"], bad["weights"]) == (None, "")
    assert all(not row["problem"] and row["cost"] > 0 for row in good)
    text = CliRunner().invoke(app, ["pool", "check", str(tmp_path / "pool.yaml")])
    assert (
        text.stdout.strip()
        .splitlines()[-1]
        .startswith("4 candidates of 2 generators: 1 with a problem; weights at hand for 1")
    )


def test_a_bad_pool_file_is_bad_input(tmp_path: Path):
    with pytest.raises(InputError, match="unknown key 'colour'"):
        check_rows(_file(tmp_path, {}, colour="red"), None)

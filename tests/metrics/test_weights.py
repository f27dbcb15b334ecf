"""Weights of metrics from folders and from the hub: the real client against a real server on this
machine.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from catimage.errors import InputError
from catimage.metrics.metric import MetricContext
from catimage.metrics.weights import load_state, read_state, weights_file, weights_folder
from catimage.params import WeightsParams
from tests.pool.generators.diffusion.hub import REVISION, hub_of

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


class Dangerous:
    """What a pickle would run when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("touched"),)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """``mini/head`` and the gated ``mini/gated``; yields the files sent."""
    from huggingface_hub import constants, hf_api

    folder = tmp_path / "repository"
    folder.mkdir()
    save_file(STATE, folder / "head.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "readme.md").write_text("much")
    with hub_of({"mini/head": folder, "mini/gated": folder}, gated=("mini/gated",)) as (
        address,
        sent,
    ):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(hf_api.api, "endpoint", address)
        yield sent


def _context(weights: str, revision: str | None = None) -> MetricContext:
    return MetricContext(weights={"mini": WeightsParams(weights=weights, revision=revision)})


def _same(state: dict[str, torch.Tensor]) -> bool:
    return list(state) == list(STATE) and all(torch.equal(state[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth", "a.bin", "a.ckpt"])
def test_state_dicts_of_every_format_are_read(tmp_path: Path, name: str):
    (
        save_file(STATE, tmp_path / name)
        if name.endswith("safetensors")
        else torch.save(STATE, tmp_path / name)
    )
    assert _same(
        dict(
            sorted(
                read_state(weights_file(_context(str(tmp_path)), "mini", name), "mini").items(),
                reverse=True,
            )
        )
    )


def test_a_trainers_checkpoint_has_its_state_dict_inside(tmp_path: Path):
    torch.save({"epoch": 3, "state_dict": STATE}, tmp_path / "a.pt")
    model = torch.nn.Linear(3, 2)
    load_state(model, tmp_path / "a.pt", "mini")
    assert torch.equal(model.weight, STATE["weight"])


def test_a_pickle_of_more_than_tensors_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Dangerous()}, tmp_path / "a.pt")
    with pytest.raises(
        InputError,
        match=r"label.weights.mini: .*a\.pt is damaged, or a pickle of more than tensors",
    ):
        read_state(tmp_path / "a.pt", "mini")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "absent.pt"])
def test_damaged_files_are_named(tmp_path: Path, name: str):
    if name != "absent.pt":
        (tmp_path / name).write_bytes(b"\x05" * 40)
    with pytest.raises(InputError, match=rf"label.weights.mini: .*{name} is damaged"):
        read_state(tmp_path / name, "mini")


def test_what_is_no_state_dict_is_refused(tmp_path: Path):
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="holds no state dict"):
        read_state(tmp_path / "a.pt", "mini")
    with pytest.raises(InputError, match=r"a\.onnx is no file of weights"):
        read_state(tmp_path / "a.onnx", "mini")


def test_weights_of_another_model_are_refused(tmp_path: Path):
    torch.save(STATE, tmp_path / "a.pt")
    with pytest.raises(
        InputError,
        match=r"label.weights.mini: .*holds the weights of another model \(.*size mismatch",
    ):
        load_state(torch.nn.Linear(4, 2), tmp_path / "a.pt", "mini")


def test_nothing_said_and_no_default(tmp_path: Path):
    with pytest.raises(
        InputError,
        match=r"label.weights.mini: say where the weights of 'mini' are: .* with head.pth",
    ):
        weights_file(MetricContext(), "mini", "head.pth")
    with pytest.raises(
        InputError,
        match=r"label.weights.mini: there is no folder .*absent; put the weights there or",
    ):
        weights_folder(_context(str(tmp_path / "absent")), "mini", ["*.json"])
    with pytest.raises(InputError, match=r"label.weights.mini: there is no file .*head.pth"):
        weights_file(_context(str(tmp_path)), "mini", "head.pth")


def test_files_of_the_hub_are_fetched_once(hub: list[str], monkeypatch: pytest.MonkeyPatch):
    context = _context("mini/head", REVISION)
    assert _same(
        dict(
            sorted(
                read_state(weights_file(context, "mini", "head.safetensors"), "mini").items(),
                reverse=True,
            )
        )
    )
    assert hub == ["mini/head/head.safetensors"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert weights_file(
        MetricContext(), "mini", "head.safetensors", WeightsParams(weights="mini/head", revision=REVISION)
    ).is_file()
    assert hub == ["mini/head/head.safetensors"]


def test_of_a_repository_only_what_is_asked_for_is_fetched(hub: list[str]):
    folder = weights_folder(_context("mini/head", REVISION), "mini", ["*.json", "head.safetensors"])
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "head.safetensors"]
    assert not any("readme" in path for path in hub)


@pytest.mark.parametrize(
    ("repository", "revision", "file", "said"),
    [
        (
            "mini/absent",
            REVISION,
            "head.safetensors",
            "the hub has no 'mini/absent', or it is private",
        ),
        ("mini/head", "b" * 40, "head.safetensors", f"'mini/head' has no revision '{'b' * 40}'"),
        ("mini/gated", REVISION, "head.safetensors", "'mini/gated' is gated. Accept its terms"),
        ("mini/head", REVISION, "tail.safetensors", "'mini/head' lacks a file at revision"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    hub: list[str], repository: str, revision: str, file: str, said: str
):
    with pytest.raises(InputError, match=f"^params.yaml: label.weights.mini: {said}") as caught:
        weights_file(_context(repository, revision), "mini", file)
    assert "\n" not in str(caught.value)


def test_a_hub_out_of_reach(hub: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"label.weights.mini: the hub does not respond"):
        weights_file(_context("mini/head", REVISION), "mini", "head.safetensors")

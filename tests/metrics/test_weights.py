"""Weights of metrics from folders and from the hub: the real client with a local server."""

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
from tests.pool.generators.diffusion.hub import REVISION, serve_repositories

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


class Dangerous:
    """An object whose pickle would run code when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("touched"),)


@pytest.fixture
def sent_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve the repositories ``mini/head`` and ``mini/gated``; yield a list of the sent files."""
    from huggingface_hub import constants, hf_api

    folder = tmp_path / "repository"
    folder.mkdir()
    save_file(STATE, folder / "head.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "readme.md").write_text("text")
    with serve_repositories({"mini/head": folder, "mini/gated": folder}, gated=("mini/gated",)) as (
        address,
        files,
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
        yield files


def _context(weights: str, revision: str | None = None) -> MetricContext:
    return MetricContext(weights={"mini": WeightsParams(weights=weights, revision=revision)})


def _is_expected(state: dict[str, torch.Tensor]) -> bool:
    """Return whether a state dict equals ``STATE``, including the order of its names."""
    return list(state) == list(STATE) and all(torch.equal(state[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth", "a.bin", "a.ckpt"])
def test_state_dicts_of_every_format_are_read(tmp_path: Path, name: str):
    (
        save_file(STATE, tmp_path / name)
        if name.endswith("safetensors")
        else torch.save(STATE, tmp_path / name)
    )
    assert _is_expected(
        dict(
            sorted(
                read_state(weights_file(_context(str(tmp_path)), "mini", name), "mini").items(),
                reverse=True,
            )
        )
    )


def test_the_state_dict_of_a_trainers_checkpoint_is_read(tmp_path: Path):
    torch.save({"epoch": 3, "state_dict": STATE}, tmp_path / "a.pt")
    model = torch.nn.Linear(3, 2)
    load_state(model, tmp_path / "a.pt", "mini")
    assert torch.equal(model.weight, STATE["weight"])


def test_a_pickle_with_other_objects_is_refused_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Dangerous()}, tmp_path / "a.pt")
    with pytest.raises(
        InputError,
        match=(
            r"label.weights.mini: .*a\.pt is damaged, or is a pickle that contains objects other"
            r" than tensors, which are not loaded"
        ),
    ):
        read_state(tmp_path / "a.pt", "mini")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
@pytest.mark.parametrize("content", [b"", b"\x05" * 40, b"PK\x03\x04"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"label.weights.mini: .*{name} is damaged"):
        read_state(tmp_path / name, "mini")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_a_missing_file_and_a_folder_are_not_reported_as_damaged(tmp_path: Path, name: str):
    with pytest.raises(InputError, match=rf"label.weights.mini: .*{name} is not found\. Put the"):
        read_state(tmp_path / name, "mini")
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=rf"label.weights.mini: .*{name} cannot be read\. Check"):
        read_state(tmp_path / name, "mini")


def test_other_content_than_a_state_dict_is_refused(tmp_path: Path):
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="does not contain a state dict"):
        read_state(tmp_path / "a.pt", "mini")
    with pytest.raises(InputError, match=r"a\.onnx: unknown format of weights"):
        read_state(tmp_path / "a.onnx", "mini")


def test_weights_of_another_model_are_refused(tmp_path: Path):
    torch.save(STATE, tmp_path / "a.pt")
    with pytest.raises(
        InputError,
        match=r"label.weights.mini: .*has the weights of another model \(.*size mismatch",
    ):
        load_state(torch.nn.Linear(4, 2), tmp_path / "a.pt", "mini")


def test_a_missing_location_of_weights_is_refused(tmp_path: Path):
    with pytest.raises(
        InputError,
        match=(
            r"label.weights.mini: the location of the weights of 'mini' is not set\. Set it to a"
            r" folder with head\.pth"
        ),
    ):
        weights_file(MetricContext(), "mini", "head.pth")
    with pytest.raises(
        InputError,
        match=r"label.weights.mini: the folder .*absent is not found\. Put the weights there or",
    ):
        weights_folder(_context(str(tmp_path / "absent")), "mini", ["*.json"])
    with pytest.raises(InputError, match=r"label.weights.mini: .*head\.pth is not found"):
        weights_file(_context(str(tmp_path)), "mini", "head.pth")


def test_files_are_downloaded_from_the_hub_once(
    sent_files: list[str], monkeypatch: pytest.MonkeyPatch
):
    context = _context("mini/head", REVISION)
    assert _is_expected(
        dict(
            sorted(
                read_state(weights_file(context, "mini", "head.safetensors"), "mini").items(),
                reverse=True,
            )
        )
    )
    assert sent_files == ["mini/head/head.safetensors"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert weights_file(
        MetricContext(),
        "mini",
        "head.safetensors",
        WeightsParams(weights="mini/head", revision=REVISION),
    ).is_file()
    assert sent_files == ["mini/head/head.safetensors"]


def test_only_the_requested_files_of_a_repository_are_downloaded(sent_files: list[str]):
    folder = weights_folder(_context("mini/head", REVISION), "mini", ["*.json", "head.safetensors"])
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "head.safetensors"]
    assert not any("readme" in path for path in sent_files)


@pytest.mark.parametrize(
    ("repository", "revision", "file", "message"),
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
def test_errors_of_the_hub_are_reported(
    sent_files: list[str], repository: str, revision: str, file: str, message: str
):
    with pytest.raises(InputError, match=f"^params.yaml: label.weights.mini: {message}") as caught:
        weights_file(_context(repository, revision), "mini", file)
    assert "\n" not in str(caught.value)


def test_an_unreachable_hub_is_reported(sent_files: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"label.weights.mini: the hub does not respond"):
        weights_file(_context("mini/head", REVISION), "mini", "head.safetensors")

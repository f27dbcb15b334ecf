"""The kind ``infinity``, tested with a fake of the official package that records its calls.

The official package needs CUDA, and the published checkpoints are not available to tests. The fake
has the interface of the official package.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml

from catimage.errors import InputError
from catimage.pool.costs import candidate_costs
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.infinity.architecture import SIDES
from catimage.pool.generators.infinity.weights import AUTOENCODER, TRANSFORMER
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool

SCALES = [(t, side, side) for t, side in enumerate(SIDES[:7], 1)]


class Infinity(torch.nn.Module):
    """A fake transformer that returns noise.

    The noise depends on the seed and the text. The value of the blue channel is the guidance.
    """

    calls: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings
        self.block = torch.nn.Linear(4, 4)
        self.unregistered_blocks = [self.block]
        self.rng = torch.Generator()

    def autoregressive_infer_cfg(self, **arguments: Any) -> tuple[None, None, torch.Tensor]:
        assert self.block.weight.dtype == torch.bfloat16 and not self.training
        Infinity.calls.append(arguments)
        self.rng.manual_seed(arguments["g_seed"])
        side = 16 * arguments["scale_schedule"][-1][1]
        image = torch.randint(0, 100, (1, side, side, 3), generator=self.rng)
        image += int(10_000 * arguments["label_B_or_BLT"][0].abs().mean()) % 100
        image[..., 0] = int(arguments["cfg_list"][0])  # BGR
        return None, None, image.to(torch.uint8)


def vae_model(state: Any, *shape: Any, **settings: Any) -> torch.nn.Module:
    """Check the arguments of the autoencoder, and return a module without effect."""
    assert set(state["vae"]) == {"decoder.weight"} and shape == ("dynamic", 32, 2**32)
    return torch.nn.Identity()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the fake package under the module names of the official package."""
    Infinity.calls.clear()
    modules = {
        "infinity": {},
        "infinity.models": {},
        "infinity.models.bsq_vae": {},
        "infinity.utils": {},
        "infinity.models.infinity": {"Infinity": Infinity},
        "infinity.models.bsq_vae.vae": {"vae_model": vae_model},
        "infinity.utils.dynamic_resolution": {
            "dynamic_resolution_h_w": {1.0: {"0.06M": {"scales": SCALES}}}
        },
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(__import__("sys").modules, name, module)


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 encoder with random weights, and a tokenizer."""
    from transformers import T5Config, T5EncoderModel

    from catimage_tiny.text_tokenizer import train_text_tokenizer

    folder = tmp_path_factory.mktemp("t5")
    train_text_tokenizer(folder, captions=100)
    torch.manual_seed(0)
    T5EncoderModel(
        T5Config(vocab_size=1000, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    ).save_pretrained(folder)
    return folder


def save_checkpoints(folder: Path) -> Path:
    """Save pickled checkpoints with random weights, and return the folder."""
    torch.manual_seed(1)
    folder.mkdir()
    torch.save(
        torch.nn.ModuleDict({"block": torch.nn.Linear(4, 4)}).state_dict(),
        folder / f"{TRANSFORMER}.pth",
    )
    torch.save({"vae": {"decoder.weight": torch.ones(3)}}, folder / f"{AUTOENCODER}.pth")
    return folder


def save_pool(
    folder: Path,
    text_encoder: Path | str = "nowhere",
    candidates: list[dict[str, Any]] | None = None,
    **settings: Any,
) -> Pool:
    """Write a pool file with Infinity-2B, and return the pool that is read from it."""
    generator = {
        "kind": "infinity",
        "size": 256,
        "weights": "infinity",
        "text_encoder": str(text_encoder),
        **settings,
    }
    rows = candidates or [
        {"candidate": "plain"},
        {"candidate": "low-temperature", "temperature": 0.2},
        {"candidate": "unguided", "guidance": 1},
    ]
    path = folder / "infinity.yaml"
    candidate_rows = [{"generator": "infinity-2b", **row} for row in rows]
    path.write_text(
        yaml.safe_dump(
            {
                "name": "infinity",
                "generators": {"infinity-2b": generator},
                "candidates": candidate_rows,
            }
        )
    )
    return load_pool(str(path))


def test_images_depend_on_prompt_seed_and_settings_only(
    tmp_path: Path, text_encoder: Path, package: None
):
    save_checkpoints(tmp_path / "infinity")
    pool = save_pool(tmp_path, text_encoder)
    generator = kind_of(pool.generators["infinity-2b"], tmp_path).load(DeviceMemory("cpu"))
    prompts = ["a red ring", "two blue squares on a wall", "a red ring"]
    encoded = generator.encode(prompts)
    images = generator.generate(prompts, pool.candidate("plain"), [0, 0, 1], encoded)
    assert (images.shape, images.dtype) == ((3, 256, 256, 3), np.uint8)
    np.testing.assert_array_equal(
        images[1:2], generator.generate(prompts[1:2], pool.candidate("plain"), [0])
    )
    assert (images[0] != images[1]).any() and (images[0] != images[2]).any()
    assert (images[..., 2] == 3).all(), "the channels must be converted from BGR to RGB"
    calls = Infinity.calls
    lengths = [call["label_B_or_BLT"][1] for call in calls[:3]]
    assert lengths[0] == lengths[2] < lengths[1] and len(encoded) == 2, (
        "padding must be removed, and each prompt must be encoded once"
    )
    states, token_counts, offsets, longest = calls[0]["label_B_or_BLT"]
    assert states.shape == (longest, 16)
    assert token_counts == [longest] and offsets.tolist() == [0, longest]
    assert calls[0]["scale_schedule"] == [(1, side, side) for side in SIDES[:7]]
    assert (
        calls[0]["cfg_list"] == [3.0] * 7
        and calls[0]["tau_list"] == [0.5] * 7
        and calls[0]["g_seed"] == 0
    )
    for name, expected in (("low-temperature", (3.0, 0.2)), ("unguided", (1.0, 0.5))):
        generator.generate(prompts[:1], pool.candidate(name), [0])
        assert (calls[-1]["cfg_list"][0], calls[-1]["tau_list"][0]) == expected


def test_checkpoints_are_converted_once_and_identify_the_weights(
    tmp_path: Path, text_encoder: Path
):
    folder = save_checkpoints(tmp_path / "infinity")
    spec = save_pool(tmp_path, text_encoder).generators["infinity-2b"]
    first = kind_of(spec, tmp_path).identity()
    times = {p: p.stat().st_mtime_ns for p in folder.glob("*.safetensors")}
    assert {p.stem for p in times} == {TRANSFORMER, AUTOENCODER}
    for pickled in folder.glob("*.pth"):
        pickled.unlink()
    assert (
        kind_of(spec, tmp_path).identity() == first
        and {p: p.stat().st_mtime_ns for p in times} == times
    )
    (folder / f"{TRANSFORMER}.safetensors").write_bytes(b"other")
    assert kind_of(spec, tmp_path).identity()["weights"] != first["weights"]
    hub = save_pool(
        tmp_path, "google/flan-t5-xl", weights="a/b", revision="1", text_encoder_revision="2"
    ).generators["infinity-2b"]
    assert kind_of(hub, tmp_path).identity() == {
        "weights": "a/b@1",
        "text_encoder": "google/flan-t5-xl@2",
    }


class PrintsWhenUnpickled:
    """An object whose pickle calls ``print``."""

    def __reduce__(self) -> Any:
        return print, ("unpickled",)


def test_a_pickle_with_more_than_tensors_is_refused(
    tmp_path: Path, text_encoder: Path, capsys: pytest.CaptureFixture[str]
):
    folder = save_checkpoints(tmp_path / "infinity")
    torch.save(
        {"block.weight": torch.ones(1), "object": PrintsWhenUnpickled()},
        folder / f"{TRANSFORMER}.pth",
    )
    with pytest.raises(
        InputError,
        match=r"infinity-2b\.weights: .* is damaged or contains objects other than tensors",
    ):
        kind_of(save_pool(tmp_path, text_encoder).generators["infinity-2b"], tmp_path).identity()
    assert "unpickled" not in capsys.readouterr().out
    assert not list(folder.glob("*.safetensors"))


def test_missing_packages_and_files_are_reported(tmp_path: Path, text_encoder: Path):
    pool = save_pool(tmp_path, text_encoder)
    spec = pool.generators["infinity-2b"]
    with pytest.raises(
        InputError,
        match=(
            r"kind: the official package of Infinity cannot be imported \(No module.*Clone"
            r" FoundationVision"
        ),
    ):
        kind_of(spec, tmp_path).load(DeviceMemory("cpu"))
    with pytest.raises(
        InputError,
        match=(
            r"weights: the folder .*infinity is not found\. Put the weights there or, for a hub id,"
            r" add its 'revision'"
        ),
    ):
        kind_of(spec, tmp_path).identity()
    (tmp_path / "infinity").mkdir()
    with pytest.raises(
        InputError, match=r"neither infinity_2b_reg\.pth nor infinity_2b_reg\.safetensors is in"
    ):
        kind_of(spec, tmp_path).identity()
    facts = kind_of(spec, tmp_path).facts()
    assert (
        facts.missing == f"the official package, {TRANSFORMER}, {AUTOENCODER}"
        and facts.memory_bytes > facts.weight_bytes > 7e9
    )
    hub = save_pool(tmp_path, "google/flan-t5-xl", weights="a/b", revision="1").generators[
        "infinity-2b"
    ]
    assert kind_of(hub, tmp_path).facts().missing.endswith(f"{AUTOENCODER}, google/flan-t5-xl")


def test_a_device_without_cuda_and_incomplete_weights_are_refused(
    tmp_path: Path, text_encoder: Path, package: None, monkeypatch: pytest.MonkeyPatch
):
    save_checkpoints(tmp_path / "infinity")
    pool = save_pool(tmp_path, text_encoder)
    spec = pool.generators["infinity-2b"]
    with pytest.raises(InputError, match=r"requires CUDA, but the device is 'cpu'"):
        kind_of(spec, tmp_path).prepare(pool.candidates, "cpu")
    kind_of(spec, tmp_path).prepare(pool.candidates, "cuda:0")
    load_result = SimpleNamespace(missing_keys=["head.weight", "head.bias"])
    monkeypatch.setattr(Infinity, "load_state_dict", lambda *_: load_result)
    with pytest.raises(InputError, match=r"lacks 2 tensors of Infinity-2B, such as head\.weight"):
        kind_of(spec, tmp_path).load(DeviceMemory("cpu"))


INVALID_ENTRIES = {
    "invalid size": ({"size": 768}, None, r"infinity-2b\.size"),
    "steps": (
        {},
        [{"candidate": "x", "steps": 4}],
        "'x' has 'steps', but the size determines Infinity's scales",
    ),
    "guidance below 1": ({"guidance": 0.5}, None, r"infinity-2b\.guidance"),
    "equal candidates": (
        {},
        [{"candidate": "x"}, {"candidate": "y", "guidance": 3}],
        "'y' is the same as 'x'",
    ),
    "unknown key": ({}, [{"candidate": "x", "tau": 1}], "unknown key 'tau'"),
}


@pytest.mark.parametrize(
    ("settings", "candidates", "message"), INVALID_ENTRIES.values(), ids=INVALID_ENTRIES
)
def test_invalid_entries_are_refused(
    tmp_path: Path, settings: dict[str, Any], candidates: list[dict[str, Any]] | None, message: str
):
    with pytest.raises(InputError, match=message):
        save_pool(tmp_path, candidates=candidates, **settings)


def test_costs_are_counted_without_package_and_weights(tmp_path: Path):
    rows = candidate_costs(save_pool(tmp_path)).set_index("candidate")
    assert (
        rows["denoiser"]["plain"]
        == rows["denoiser"]["low-temperature"]
        == 2 * rows["denoiser"]["unguided"]
    )
    assert set(rows["unit"]) == {"tflops"} and set(rows["denoiser_calls"]) == {7}

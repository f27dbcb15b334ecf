"""Weights from a hub: the real client against a real server on this machine."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.errors import InputError
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool
from tests.architectures import generator_of
from tests.pool.generators.diffusion.adapters import FILE, save_adapter
from tests.pool.generators.diffusion.hub import REVISION, hub_of


@pytest.fixture
def hub(
    family_weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """``mini/sd``, ``mini/unet`` (a file of weights), ``mini/lora``, ``mini/pickled``, and
    ``mini/gated``; yields the files sent.
    """
    from huggingface_hub import constants, hf_api

    sd = family_weights("sd")
    (tmp_path / "unet").mkdir()
    shutil.copy(
        sd / "unet" / "diffusion_pytorch_model.safetensors", tmp_path / "unet" / "4step.safetensors"
    )
    pickled = shutil.copytree(sd, tmp_path / "pickled")
    (pickled / "vae" / "diffusion_pytorch_model.safetensors").rename(
        pickled / "vae" / "diffusion_pytorch_model.bin"
    )
    save_adapter("StableDiffusionPipeline", sd, tmp_path / "lora" / "styles")
    repositories = {
        "mini/sd": sd,
        "mini/unet": tmp_path / "unet",
        "mini/lora": tmp_path / "lora",
        "mini/pickled": pickled,
        "mini/gated": sd,
    }
    with hub_of(repositories, gated=("mini/gated",)) as (address, sent):
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


def _pool(folder: Path, weights: str, revision: str = REVISION, **changes: Any) -> Pool:
    generator = {**generator_of("sd", weights), "revision": revision, **changes}
    rows = [{"candidate": "a", "generator": "mini", "steps": 2}]
    (folder / "hub.yaml").write_text(
        yaml.safe_dump({"name": "hub", "generators": {"mini": generator}, "candidates": rows})
    )
    return load_pool(str(folder / "hub.yaml"))


def test_weights_are_fetched_once_and_taken_from_the_cache_when_the_hub_is_gone(
    hub: list[str],
    tmp_path: Path,
    family_weights: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
):
    pool = _pool(tmp_path, "mini/sd")
    opened = GeneratorCache(pool, "cpu")
    opened.prepare()
    assert "mini/sd/unet/diffusion_pytorch_model.safetensors" in hub
    hub.clear()
    image = opened.get("mini").generate(["a red ring"], pool.candidates[0], [3])
    assert not hub
    local = _pool(tmp_path, str(family_weights("sd")))
    assert (
        GeneratorCache(local, "cpu").get("mini").generate(["a red ring"], local.candidates[0], [3])
        == image
    ).all()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    again = GeneratorCache(pool, "cpu")
    again.prepare()
    assert (
        again.generator("mini").generate(["a red ring"], pool.candidates[0], [3]) == image
    ).all()


def test_what_a_part_replaces_is_not_fetched(hub: list[str], tmp_path: Path):
    part = {"weights": "mini/unet", "revision": REVISION, "file": "4step.safetensors"}
    pool = _pool(tmp_path, "mini/sd", parts={"unet": part})
    opened = GeneratorCache(pool, "cpu")
    opened.prepare()
    assert "mini/unet/4step.safetensors" in hub
    assert "mini/sd/unet/config.json" in hub
    assert "mini/sd/unet/diffusion_pytorch_model.safetensors" not in hub
    assert opened.get("mini").generate(["a red ring"], pool.candidates[0], [3]).shape[0] == 1


def test_an_adapter_is_fetched_as_one_file(hub: list[str], tmp_path: Path):
    lora = {"weights": "mini/lora", "revision": REVISION, "subfolder": "styles"}
    pool = _pool(tmp_path, "mini/sd", lora=lora)
    opened = GeneratorCache(pool, "cpu")
    opened.prepare()
    assert [name for name in hub if name.startswith("mini/lora")] == [f"mini/lora/styles/{FILE}"]
    hub.clear()
    image = opened.get("mini").generate(["a red ring"], pool.candidates[0], [3])
    assert not hub
    assert kind_of(pool.generators["mini"], tmp_path).facts().missing == "", (
        "what a repository has beside is not needed"
    )
    local = _pool(tmp_path, "mini/sd", lora={"weights": "lora", "subfolder": "styles"})
    assert (
        GeneratorCache(local, "cpu").get("mini").generate(["a red ring"], local.candidates[0], [3])
        == image
    ).all()


BAD = {
    "gated": (
        "mini/gated",
        {},
        (
            r"\.weights: 'mini/gated' is gated: accept its terms on its page of the hub, and set"
            r" HF_TOKEN"
        ),
    ),
    "gone": (
        "mini/none",
        {},
        r"\.weights: the hub has no 'mini/none', or it is private: mend its name, or set HF_TOKEN",
    ),
    "old revision": (
        "mini/sd",
        {"revision": "b" * 40},
        r"\.weights: 'mini/sd' has no revision 'b{40}' \(any more\)",
    ),
    "no pipeline": ("mini/unet", {}, r"\.weights: 'mini/unet' lacks a file at revision"),
    "pickles": ("mini/pickled", {}, r"\.weights: 'mini/pickled' has weights as pickles alone"),
    "adapter": (
        "mini/sd",
        {"lora": {"weights": "mini/lora", "revision": REVISION, "file": "8step.safetensors"}},
        r"\.lora\.weights: 'mini/lora' lacks a file at revision",
    ),
    "part": (
        "mini/sd",
        {
            "parts": {
                "unet": {"weights": "mini/unet", "revision": REVISION, "file": "8step.safetensors"}
            }
        },
        r"\.parts\.unet\.weights: 'mini/unet' lacks a file at revision",
    ),
}


@pytest.mark.parametrize(("weights", "changes", "message"), BAD.values(), ids=BAD)
def test_what_the_hub_does_not_give_is_one_sentence(
    hub: list[str], weights: str, changes: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(InputError, match=message) as caught:
        GeneratorCache(_pool(tmp_path, weights, **changes), "cpu").prepare()
    assert "\n" not in str(caught.value)
    assert not [name for name in hub if "mini/gated" in name]


def test_a_hub_that_does_not_answer(
    hub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's five attempts
    with pytest.raises(
        InputError,
        match=(
            r"the hub does not answer, and 'mini/sd' at revision 'a{40}' has not been fetched"
            r" before"
        ),
    ):
        GeneratorCache(_pool(tmp_path, "mini/sd"), "cpu").prepare()

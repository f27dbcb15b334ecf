"""Weights from the model hub: the real client with a local server."""

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
from tests.architectures import generator_entry
from tests.pool.generators.diffusion.adapters import FILE, save_adapter
from tests.pool.generators.diffusion.hub import REVISION, hub_of


@pytest.fixture
def hub(
    architecture_weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Serve ``mini/sd``, ``mini/unet`` (one file), ``mini/lora``, ``mini/pickled``, ``mini/gated``.

    Yields the list of the files that were sent.
    """
    from huggingface_hub import constants, hf_api

    sd = architecture_weights("sd")
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
    generator = {**generator_entry("sd", weights), "revision": revision, **changes}
    rows = [{"candidate": "a", "generator": "mini", "steps": 2}]
    (folder / "hub.yaml").write_text(
        yaml.safe_dump({"name": "hub", "generators": {"mini": generator}, "candidates": rows})
    )
    return load_pool(str(folder / "hub.yaml"))


def test_weights_are_downloaded_once_and_read_from_the_cache_offline(
    hub: list[str],
    tmp_path: Path,
    architecture_weights: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
):
    pool = _pool(tmp_path, "mini/sd")
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    assert "mini/sd/unet/diffusion_pytorch_model.safetensors" in hub
    hub.clear()
    image = cache.get("mini").generate(["a red ring"], pool.candidates[0], [3])
    assert not hub
    local = _pool(tmp_path, str(architecture_weights("sd")))
    assert (
        GeneratorCache(local, "cpu").get("mini").generate(["a red ring"], local.candidates[0], [3])
        == image
    ).all()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = GeneratorCache(pool, "cpu")
    offline.prepare()
    assert (offline.get("mini").generate(["a red ring"], pool.candidates[0], [3]) == image).all()


def test_weights_of_a_replaced_part_are_not_downloaded(hub: list[str], tmp_path: Path):
    part = {"weights": "mini/unet", "revision": REVISION, "file": "4step.safetensors"}
    pool = _pool(tmp_path, "mini/sd", parts={"unet": part})
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    assert "mini/unet/4step.safetensors" in hub
    assert "mini/sd/unet/config.json" in hub
    assert "mini/sd/unet/diffusion_pytorch_model.safetensors" not in hub
    assert cache.get("mini").generate(["a red ring"], pool.candidates[0], [3]).shape[0] == 1


def test_only_the_file_of_an_adapter_is_downloaded(hub: list[str], tmp_path: Path):
    lora = {"weights": "mini/lora", "revision": REVISION, "subfolder": "styles"}
    pool = _pool(tmp_path, "mini/sd", lora=lora)
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    assert [name for name in hub if name.startswith("mini/lora")] == [f"mini/lora/styles/{FILE}"]
    hub.clear()
    image = cache.get("mini").generate(["a red ring"], pool.candidates[0], [3])
    assert not hub
    assert kind_of(pool.generators["mini"], tmp_path).facts().missing == "", (
        "other files of the repository are not needed"
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
            r"\.weights: 'mini/gated' is gated\. Accept its terms on its page of the hub, and set"
            r" HF_TOKEN"
        ),
    ),
    "unknown repository": (
        "mini/none",
        {},
        r"\.weights: the hub has no 'mini/none', or it is private\. Correct the name, or set",
    ),
    "unknown revision": (
        "mini/sd",
        {"revision": "b" * 40},
        r"\.weights: 'mini/sd' has no revision 'b{40}'\. Set another",
    ),
    "no pipeline": ("mini/unet", {}, r"\.weights: 'mini/unet' lacks a file at revision"),
    "pickles": ("mini/pickled", {}, r"\.weights: 'mini/pickled' has pickled weights only"),
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
def test_a_failed_download_is_reported_in_one_line(
    hub: list[str], weights: str, changes: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(InputError, match=message) as caught:
        GeneratorCache(_pool(tmp_path, weights, **changes), "cpu").prepare()
    assert "\n" not in str(caught.value)
    assert not [name for name in hub if "mini/gated" in name]


def test_a_hub_that_does_not_respond(
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
        match=(r"the hub does not respond, and 'mini/sd' at revision 'a{40}' is not in the cache"),
    ):
        GeneratorCache(_pool(tmp_path, "mini/sd"), "cpu").prepare()

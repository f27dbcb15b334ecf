"""Weights from a model hub: the real client (huggingface_hub) with a local server."""

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
from tests.pool.generators.diffusion.hub import REVISION, serve_repositories


@pytest.fixture
def sent_files(
    architecture_weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The files that a local model hub has sent.

    The hub has the repositories ``mini/sd``, ``mini/unet`` (a single file), ``mini/lora``,
    ``mini/pickled`` and ``mini/gated``.
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
    with serve_repositories(repositories, gated=("mini/gated",)) as (address, files):
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


def _pool(folder: Path, weights: str, revision: str = REVISION, **changes: Any) -> Pool:
    generator = {**generator_entry("sd", weights), "revision": revision, **changes}
    rows = [{"candidate": "a", "generator": "mini", "steps": 2}]
    (folder / "hub.yaml").write_text(
        yaml.safe_dump({"name": "hub", "generators": {"mini": generator}, "candidates": rows})
    )
    return load_pool(str(folder / "hub.yaml"))


def test_weights_are_downloaded_once_and_read_from_the_cache_offline(
    sent_files: list[str],
    tmp_path: Path,
    architecture_weights: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
):
    pool = _pool(tmp_path, "mini/sd")
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    assert "mini/sd/unet/diffusion_pytorch_model.safetensors" in sent_files
    sent_files.clear()
    image = cache.get("mini").generate(["a red ring"], pool.candidates[0], [3])
    assert not sent_files
    local = _pool(tmp_path, str(architecture_weights("sd")))
    assert (
        GeneratorCache(local, "cpu").get("mini").generate(["a red ring"], local.candidates[0], [3])
        == image
    ).all()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = GeneratorCache(pool, "cpu")
    offline.prepare()
    assert (offline.get("mini").generate(["a red ring"], pool.candidates[0], [3]) == image).all()


def test_weights_of_a_replaced_part_are_not_downloaded(sent_files: list[str], tmp_path: Path):
    part = {"weights": "mini/unet", "revision": REVISION, "file": "4step.safetensors"}
    pool = _pool(tmp_path, "mini/sd", parts={"unet": part})
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    assert "mini/unet/4step.safetensors" in sent_files
    assert "mini/sd/unet/config.json" in sent_files
    assert "mini/sd/unet/diffusion_pytorch_model.safetensors" not in sent_files
    assert cache.get("mini").generate(["a red ring"], pool.candidates[0], [3]).shape[0] == 1


def test_only_the_file_of_an_adapter_is_downloaded(sent_files: list[str], tmp_path: Path):
    lora = {"weights": "mini/lora", "revision": REVISION, "subfolder": "styles"}
    pool = _pool(tmp_path, "mini/sd", lora=lora)
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    assert [name for name in sent_files if name.startswith("mini/lora")] == [
        f"mini/lora/styles/{FILE}"
    ]
    sent_files.clear()
    image = cache.get("mini").generate(["a red ring"], pool.candidates[0], [3])
    assert not sent_files
    assert kind_of(pool.generators["mini"], tmp_path).facts().missing == "", (
        "the other files of the repository must not be required"
    )
    local = _pool(tmp_path, "mini/sd", lora={"weights": "lora", "subfolder": "styles"})
    assert (
        GeneratorCache(local, "cpu").get("mini").generate(["a red ring"], local.candidates[0], [3])
        == image
    ).all()


FAILED_DOWNLOADS = {
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
    "a repository without a pipeline": (
        "mini/unet",
        {},
        r"\.weights: 'mini/unet' lacks a file at revision",
    ),
    "pickled weights": ("mini/pickled", {}, r"\.weights: 'mini/pickled' has pickled weights only"),
    "unknown file of an adapter": (
        "mini/sd",
        {"lora": {"weights": "mini/lora", "revision": REVISION, "file": "8step.safetensors"}},
        r"\.lora\.weights: 'mini/lora' lacks a file at revision",
    ),
    "unknown file of a part": (
        "mini/sd",
        {
            "parts": {
                "unet": {"weights": "mini/unet", "revision": REVISION, "file": "8step.safetensors"}
            }
        },
        r"\.parts\.unet\.weights: 'mini/unet' lacks a file at revision",
    ),
}


@pytest.mark.parametrize(
    ("weights", "changes", "message"), FAILED_DOWNLOADS.values(), ids=FAILED_DOWNLOADS
)
def test_a_failed_download_gives_a_one_line_message(
    sent_files: list[str], weights: str, changes: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(InputError, match=message) as caught:
        GeneratorCache(_pool(tmp_path, weights, **changes), "cpu").prepare()
    assert "\n" not in str(caught.value)
    assert not [name for name in sent_files if "mini/gated" in name]


def test_a_hub_that_does_not_respond_is_reported(
    sent_files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("time.sleep", lambda _: None)  # the delays between the client's attempts
    with pytest.raises(
        InputError,
        match=(r"the hub does not respond, and 'mini/sd' at revision 'a{40}' is not in the cache"),
    ):
        GeneratorCache(_pool(tmp_path, "mini/sd"), "cpu").prepare()

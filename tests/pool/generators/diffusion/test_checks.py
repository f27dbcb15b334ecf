"""Checks of generators and candidates before weights are loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.errors import InputError
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.generators.diffusion import checks
from catimage.pool.generators.diffusion.checks import weight_bytes, weight_files
from catimage.pool.generators.diffusion.loading import components
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool
from tests.architectures import generator_entry
from tests.pool.generators.diffusion.conftest import MakePool

UNSUPPORTED_SETTINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "pipeline": (
        "sd",
        {"pipeline": "StableDifusionPipeline"},
        r"\.pipeline: .*\(did you mean 'StableDiffusionPipeline'\?\)",
    ),
    "another pipeline": (
        "sd",
        {"pipeline": "StableDiffusionXLPipeline"},
        r"\.pipeline: the weights in .* are of StableDiffusionPipeline and lack the .*XLPipeline",
    ),
    "scheduler": (
        "sd",
        {"scheduler": "EulerDiscretScheduler"},
        r"\.scheduler: .*\(did you mean 'EulerDiscreteScheduler'\?\)",
    ),
    "scheduler option": (
        "sd",
        {"scheduler_options": {"timestep_spasing": "trailing"}},
        r"\(did you mean 'timestep_spacing'\?\)",
    ),
    "steps of the scheduler": (
        "sd",
        {"scheduler_options": {"num_train_timesteps": 3}},
        r"'mini-4' has 4 steps, but its scheduler supports at most 3",
    ),
    "steps of the model": (
        "sd",
        {"steps": [2, 8]},
        r"\.steps: the candidate 'mini-1' has 1 steps, but the model supports 2 to 8",
    ),
    "argument of the call": (
        "flux",
        {"call": {"max_sequence_lenght": 32}},
        r"no such argument \(did you mean 'max_sequence_length'\?\)",
    ),
    "kind of guidance": (
        "sd",
        {"guidance_kind": "true-cfg"},
        r"StableDiffusionPipeline does not support guidance of the kind 'true-cfg'",
    ),
    "guidance of FLUX": (
        "flux",
        {"guidance_kind": "classifier-free"},
        r"FluxPipeline supports guidance of the kinds 'true-cfg' and 'distilled'",
    ),
    "guidance rescale": (
        "sd3",
        {"guidance_rescale": 0.7},
        r"\.guidance_rescale: StableDiffusion3Pipeline does not support this setting",
    ),
    "unknown part": (
        "sd",
        {"parts": {"unett": {"weights": "x"}}},
        r"parts\.unett: StableDiffusionPipeline has no such part",
    ),
    "missing folder of a part": (
        "sd",
        {"parts": {"unet": {"weights": "nowhere"}}},
        r"parts\.unet\.weights: the folder .*nowhere is not found",
    ),
}


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    UNSUPPORTED_SETTINGS.values(),
    ids=UNSUPPORTED_SETTINGS,
)
def test_unsupported_settings_give_a_one_line_message(
    architecture: str, changes: dict[str, Any], message: str, architecture_pool: MakePool
):
    with pytest.raises(InputError, match=message) as caught:
        GeneratorCache(architecture_pool(architecture, **changes), "cpu").prepare()
    assert "\n" not in str(caught.value)


@pytest.fixture
def copied_pool(architecture_weights: Callable[[str], Path], tmp_path: Path) -> Pool:
    """A pool with its own copy of weights in the folder ``sd``, which a test may change."""
    shutil.copytree(architecture_weights("sd"), tmp_path / "sd")
    tree = {
        "name": "copied",
        "generators": {"sd": generator_entry("sd")},
        "candidates": [{"candidate": "a", "generator": "sd", "steps": 2}],
    }
    (tmp_path / "copied_pool.yaml").write_text(yaml.safe_dump(tree))
    return load_pool(str(tmp_path / "copied_pool.yaml"))


def _error(pool: Pool) -> str:
    """Return the message of the check of a pool, which must be one line."""
    with pytest.raises(InputError) as caught:
        GeneratorCache(pool, "cpu").prepare()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pickles_are_refused(copied_pool: Pool):
    unet = copied_pool.folder / "sd" / "unet"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / "diffusion_pytorch_model.bin")
    assert "has pickled weights only (diffusion_pytorch_model.bin)" in _error(copied_pool)
    spec = copied_pool.generators["sd"]
    assert isinstance(spec, DiffusersSpec)
    part = {"weights": "sd", "subfolder": "unet", "file": "diffusion_pytorch_model.bin"}
    parts = DiffusersSpec.model_validate({**spec.model_dump(), "parts": {"unet": part}})
    with pytest.raises(
        InputError,
        match=r"parts\.unet\.file: 'diffusion_pytorch_model\.bin' is not a safetensors file",
    ):
        kind_of(parts, copied_pool.folder).prepare([], "cpu")


def test_missing_and_damaged_weights_are_reported(copied_pool: Pool):
    file = copied_pool.folder / "sd" / "vae" / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    assert f"{file} is damaged" in _error(copied_pool)
    file.unlink()
    assert (
        f"there is no safetensors file in {file.parent}. Put the weights of the vae there"
        in _error(copied_pool)
    )


def test_insufficient_memory_is_reported_before_loading(
    copied_pool: Pool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checks, "free_bytes", lambda _: 1000)
    assert "the weights take 0.0 GB in float32, but cpu has 0.0 GB free" in _error(copied_pool)


def test_weight_bytes_equal_those_of_the_loaded_modules(copied_pool: Pool):
    from catimage.pool.device_memory import module_bytes

    spec = copied_pool.generators["sd"]
    assert isinstance(spec, DiffusersSpec)
    half = spec.model_copy(update={"dtype": "float16"})
    modules = GeneratorCache(copied_pool, "cpu").get("sd").pipeline.components
    for name, part in components(spec, copied_pool.folder).items():
        counted = weight_bytes(spec, name, part)
        loaded = sum(p.numel() * 4 for p in modules[name].parameters()) if counted else 0
        assert counted == loaded
        assert weight_bytes(half, name, part) == loaded / 2
    assert module_bytes(modules["unet"]) == weight_bytes(
        spec, "unet", components(spec, copied_pool.folder)["unet"]
    )


def test_the_files_of_a_variant_are_selected(tmp_path: Path):
    for name in (
        "model.safetensors",
        "model.fp16.safetensors",
        "sharded.fp16-00001-of-00002.safetensors",
        "model.non_ema.safetensors",
    ):
        (tmp_path / name).touch()
    assert [f.name for f in weight_files(tmp_path, None)] == ["model.safetensors"]
    assert [f.name for f in weight_files(tmp_path, "fp16")] == [
        "model.fp16.safetensors",
        "sharded.fp16-00001-of-00002.safetensors",
    ]
    assert [f.name for f in weight_files(tmp_path, "bf16")] == ["model.safetensors"], (
        "a part without files of the variant must use the files without a variant"
    )


def test_every_generator_is_checked_before_the_first_is_loaded(
    copied_pool: Pool, monkeypatch: pytest.MonkeyPatch
):
    tree = yaml.safe_load(copied_pool.file.read_text())
    shutil.copytree(copied_pool.folder / "sd", copied_pool.folder / "other")
    tree["generators"]["other"] = generator_entry("sd", "other")
    tree["candidates"].append({"candidate": "b", "generator": "other", "steps": 2})
    copied_pool.file.write_text(yaml.safe_dump(tree))
    index = copied_pool.folder / "other" / "model_index.json"
    index.write_text(
        json.dumps({k: v for k, v in json.loads(index.read_text()).items() if k != "vae"})
    )
    assert "model_index.json lacks the part vae" in _error(load_pool(str(copied_pool.file)))

"""Loading of pipelines: replacement parts, parts that generators share, and variants."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from tests.architectures import SIZE, generator_entry

PROMPTS = ["a red ring", "two small stars on blue"]
Weights = Callable[[str], Path]


@pytest.fixture
def lightning(architecture_weights: Weights, tmp_path: Path) -> Path:
    """A file with other weights for the UNet of SDXL, in a folder without a configuration."""
    tensors = load_file(
        architecture_weights("sdxl") / "unet" / "diffusion_pytorch_model.safetensors"
    )
    torch.manual_seed(9)
    file = tmp_path / "lightning" / "lightning_4step_unet.safetensors"
    file.parent.mkdir()
    save_file({name: torch.randn_like(tensor) * 0.1 for name, tensor in tensors.items()}, file)
    return file


def _pool(path: Path, generators: dict[str, Any]) -> Pool:
    rows = [
        {"candidate": f"{name}-{n}", "generator": name, "steps": n}
        for name in generators
        for n in (2, 4)
    ]
    path.write_text(
        yaml.safe_dump({"name": "loading", "generators": generators, "candidates": rows})
    )
    return load_pool(str(path))


@pytest.fixture
def pool(architecture_weights: Weights, lightning: Path, tmp_path: Path) -> Pool:
    """A pool with SDXL, SDXL with another UNet, and SDXL with another guidance scale."""
    base = generator_entry("sdxl", str(architecture_weights("sdxl")))
    part = {"weights": str(lightning.parent), "file": lightning.name}
    generators = {
        "sdxl": base,
        "lightning": {**base, "guidance": 0.0, "parts": {"unet": part}},
        "guided": {**base, "guidance": 5.0},
    }
    return _pool(tmp_path / "sdxl.yaml", generators)


@pytest.fixture
def loaded_classes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The class names of the models and tokenizers that are loaded from files, in order."""
    from diffusers import ModelMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    names: list[str] = []
    for cls in (ModelMixin, PreTrainedModel, PreTrainedTokenizerBase):

        def from_pretrained(
            model_class: type, *args: Any, real: Any = cls.from_pretrained.__func__, **kwargs: Any
        ) -> Any:
            names.append(model_class.__name__)
            return real(model_class, *args, **kwargs)

        monkeypatch.setattr(cls, "from_pretrained", classmethod(from_pretrained))
    yield names


def test_generators_share_common_parts(pool: Pool, loaded_classes: list[str]):
    cache = GeneratorCache(pool, "cpu")
    sdxl, lightning, guided = (cache.get(name).pipeline for name in pool.generators)
    for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae"):
        assert getattr(sdxl, name) is getattr(lightning, name) is getattr(guided, name)
    assert sdxl.unet is guided.unet
    assert sdxl.unet is not lightning.unet
    assert len({id(p.scheduler) for p in (sdxl, lightning, guided)}) == 3, (
        "schedulers must not be shared"
    )
    assert sorted(loaded_classes) == sorted(
        [
            *[
                "AutoencoderKL",
                "CLIPTextModel",
                "CLIPTextModelWithProjection",
                "CLIPTokenizer",
                "CLIPTokenizer",
            ],
            *["UNet2DConditionModel"] * 2,
        ]
    )


def test_a_part_that_is_a_single_file_replaces_the_unet(pool: Pool, lightning: Path):
    cache = GeneratorCache(pool, "cpu")
    generator = cache.get("lightning")
    expected = load_file(lightning)
    assert all(
        torch.equal(tensor, expected[name])
        for name, tensor in generator.pipeline.unet.state_dict().items()
    )
    images = generator.generate(PROMPTS, pool.candidate("lightning-4"), [0, 1])
    assert images.shape == (2, SIZE, SIZE, 3)
    assert (
        images != cache.get("sdxl").generate(PROMPTS, pool.candidate("sdxl-4"), [0, 1])
    ).mean() > 0.5


def test_a_part_in_a_folder_replaces_the_part_of_the_pipeline(
    architecture_weights: Weights, tmp_path: Path
):
    base = generator_entry("sd", str(architecture_weights("sd")))
    sd2 = architecture_weights("sd2")
    parts = {
        "unet": {"weights": str(sd2), "subfolder": "unet"},
        "text_encoder": {"weights": str(tmp_path / "text")},
    }
    (tmp_path / "text").symlink_to(sd2 / "text_encoder")
    pool = _pool(tmp_path / "parts.yaml", {"mixed": {**base, "parts": parts}})
    pipeline = GeneratorCache(pool, "cpu").get("mixed").pipeline
    assert pipeline.unet.config.use_linear_projection, "the part must have its own configuration"
    expected = load_file(sd2 / "text_encoder" / "model.safetensors")
    assert all(
        torch.equal(tensor, expected[name])
        for name, tensor in pipeline.text_encoder.state_dict().items()
        if name in expected
    )


def test_switching_between_candidates_of_loaded_generators_does_not_load_parts(
    pool: Pool, loaded_classes: list[str]
):
    cache = GeneratorCache(pool, "cpu")
    first = {
        c.candidate: cache.get(c.generator).generate(PROMPTS, c, [0, 1]) for c in pool.candidates
    }
    loaded_classes.clear()
    for candidate in reversed(pool.candidates):
        images = cache.get(candidate.generator).generate(PROMPTS, candidate, [0, 1])
        assert (images == first[candidate.candidate]).all()
    assert not loaded_classes
    assert len({images.tobytes() for images in first.values()}) == len(first)


def test_releasing_a_generator_keeps_the_parts_that_others_use(
    pool: Pool, loaded_classes: list[str]
):
    cache = GeneratorCache(pool, "cpu", ["lightning", "sdxl"])
    cache.get("lightning")
    cache.release("lightning")
    part_types = {type(part).__name__ for part in cache.memory.parts.values()}
    assert "UNet2DConditionModel" not in part_types
    assert "CLIPTextModel" in part_types
    loaded_classes.clear()
    cache.get("sdxl")
    assert loaded_classes == ["UNet2DConditionModel"]
    cache.release("sdxl")
    assert not cache.memory.parts


def test_weights_of_a_variant_are_loaded(architecture_weights: Weights, tmp_path: Path):
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        architecture_weights("sd"), low_cpu_mem_usage=False
    )
    torch.nn.init.zeros_(pipeline.unet.conv_out.weight)
    pipeline.to(dtype=torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    pool = _pool(
        tmp_path / "half.yaml",
        {"half": {**generator_entry("sd", "half"), "variant": "fp16", "dtype": "bfloat16"}},
    )
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    unet = cache.get("half").pipeline.unet
    assert unet.conv_out.weight.abs().max() == 0
    assert unet.dtype == torch.bfloat16
    assert np.isfinite(cache.get("half").generate(PROMPTS, pool.candidate("half-2"), [0, 1])).all()

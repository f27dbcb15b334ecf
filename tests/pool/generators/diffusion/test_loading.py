"""Replaced parts, shared parts, and what is not loaded twice."""

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
from tests.architectures import SIZE, generator_of

PROMPTS = ["a red ring", "two small stars on blue"]
Weights = Callable[[str], Path]


@pytest.fixture
def lightning(family_weights: Weights, tmp_path: Path) -> Path:
    """Another UNet for SDXL, as one file beside nothing else."""
    tensors = load_file(family_weights("sdxl") / "unet" / "diffusion_pytorch_model.safetensors")
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
def pool(family_weights: Weights, lightning: Path, tmp_path: Path) -> Pool:
    """SDXL, SDXL with another UNet, and SDXL once more with other settings."""
    base = generator_of("sdxl", str(family_weights("sdxl")))
    part = {"weights": str(lightning.parent), "file": lightning.name}
    generators = {
        "sdxl": base,
        "lightning": {**base, "guidance": 0.0, "parts": {"unet": part}},
        "again": {**base, "guidance": 5.0},
    }
    return _pool(tmp_path / "sdxl.yaml", generators)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The class of every model and tokenizer that is loaded from files."""
    from diffusers import ModelMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    seen: list[str] = []
    for cls in (ModelMixin, PreTrainedModel, PreTrainedTokenizerBase):

        def from_pretrained(
            own: type, *args: Any, real: Any = cls.from_pretrained.__func__, **kwargs: Any
        ) -> Any:
            seen.append(own.__name__)
            return real(own, *args, **kwargs)

        monkeypatch.setattr(cls, "from_pretrained", classmethod(from_pretrained))
    yield seen


def test_generators_share_what_they_have_in_common(pool: Pool, loads: list[str]):
    opened = GeneratorCache(pool, "cpu")
    sdxl, lightning, again = (opened.get(name).pipeline for name in pool.generators)
    for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae"):
        assert getattr(sdxl, name) is getattr(lightning, name) is getattr(again, name)
    assert sdxl.unet is again.unet
    assert sdxl.unet is not lightning.unet
    assert len({id(p.scheduler) for p in (sdxl, lightning, again)}) == 3, "a scheduler has a state"
    assert sorted(loads) == sorted(
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


def test_a_part_of_one_file_is_the_unet_of_its_images(pool: Pool, lightning: Path):
    opened = GeneratorCache(pool, "cpu")
    generator = opened.get("lightning")
    expected = load_file(lightning)
    assert all(
        torch.equal(tensor, expected[name])
        for name, tensor in generator.pipeline.unet.state_dict().items()
    )
    images = generator.generate(PROMPTS, pool.candidate("lightning-4"), [0, 1])
    assert images.shape == (2, SIZE, SIZE, 3)
    assert (
        images != opened.get("sdxl").generate(PROMPTS, pool.candidate("sdxl-4"), [0, 1])
    ).mean() > 0.5


def test_a_part_in_a_folder_goes_before_the_pipelines_own(family_weights: Weights, tmp_path: Path):
    base = generator_of("sd", str(family_weights("sd")))
    parts = {
        "unet": {"weights": str(family_weights("sd2")), "subfolder": "unet"},
        "text_encoder": {"weights": str(tmp_path / "text")},
    }
    family = family_weights("sd2")
    (tmp_path / "text").symlink_to(family / "text_encoder")
    pool = _pool(tmp_path / "parts.yaml", {"mixed": {**base, "parts": parts}})
    pipeline = GeneratorCache(pool, "cpu").get("mixed").pipeline
    assert pipeline.unet.config.use_linear_projection, "its own configuration"
    expected = load_file(family / "text_encoder" / "model.safetensors")
    assert all(
        torch.equal(tensor, expected[name])
        for name, tensor in pipeline.text_encoder.state_dict().items()
        if name in expected
    )


def test_switching_between_candidates_and_opened_generators_loads_nothing(
    pool: Pool, loads: list[str]
):
    opened = GeneratorCache(pool, "cpu")
    first = {
        c.candidate: opened.get(c.generator).generate(PROMPTS, c, [0, 1]) for c in pool.candidates
    }
    loads.clear()
    for candidate in reversed(pool.candidates):
        again = opened.get(candidate.generator).generate(PROMPTS, candidate, [0, 1])
        assert (again == first[candidate.candidate]).all()
    assert not loads
    assert len({images.tobytes() for images in first.values()}) == len(first)


def test_a_closed_generator_leaves_what_others_will_use(pool: Pool, loads: list[str]):
    opened = GeneratorCache(pool, "cpu", ["lightning", "sdxl"])
    opened.get("lightning")
    opened.release("lightning")
    kinds = {type(part).__name__ for part in opened.memory.parts.values()}
    assert "UNet2DConditionModel" not in kinds
    assert "CLIPTextModel" in kinds
    loads.clear()
    opened.get("sdxl")
    assert loads == ["UNet2DConditionModel"]
    opened.release("sdxl")
    assert not opened.memory.parts


def test_variant_weights_are_those_of_their_name(family_weights: Weights, tmp_path: Path):
    import diffusers

    plain = diffusers.StableDiffusionPipeline.from_pretrained(
        family_weights("sd"), low_cpu_mem_usage=False
    )
    torch.nn.init.zeros_(plain.unet.conv_out.weight)
    plain.to(dtype=torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    pool = _pool(
        tmp_path / "half.yaml",
        {"half": {**generator_of("sd", "half"), "variant": "fp16", "dtype": "bfloat16"}},
    )
    opened = GeneratorCache(pool, "cpu")
    opened.prepare()
    unet = opened.get("half").pipeline.unet
    assert unet.conv_out.weight.abs().max() == 0
    assert unet.dtype == torch.bfloat16
    assert np.isfinite(opened.get("half").generate(PROMPTS, pool.candidate("half-2"), [0, 1])).all()

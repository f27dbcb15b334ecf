"""The key ``call`` of a generator and of a candidate: negative prompts and other arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from catimage.commands.costs import cost_rows
from catimage.commands.pool_check import check_rows
from catimage.errors import InputError
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.generators.diffusion.generator import DiffusionGenerator
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from tests.architectures import ARCHITECTURES
from tests.miniature import pool_tree
from tests.pool.generators.diffusion.conftest import MakePool

PROMPTS = ["a red ring", "an empty white wall", "two small stars on a blue background"]
NEGATIVE = "a blue square"


def _pool(miniature_pool: Path, folder: Path, candidate: Any = None, **changes: Any) -> Pool:
    """Write a pool with one generator; ``candidate`` changes the last of its candidates."""
    tree: Any = pool_tree(str(miniature_pool.parent / "sd"))
    tree["generators"]["mini"].update(changes)
    tree["candidates"][-1].update(candidate or {})
    (folder / "pool.yaml").write_text(yaml.safe_dump(tree))
    return load_pool(str(folder / "pool.yaml"))


def _generator(pool: Pool) -> DiffusionGenerator:
    generator = GeneratorCache(pool, "cpu").get("mini")
    assert isinstance(generator, DiffusionGenerator)
    return generator


def _largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_a_negative_prompt_gives_the_images_of_the_pipeline_of_diffusers(
    miniature_pool: Path, tmp_path: Path
):
    from diffusers import StableDiffusionPipeline

    pool = _pool(miniature_pool, tmp_path, call={"negative_prompt": NEGATIVE})
    generator = _generator(pool)
    images = generator.generate(PROMPTS, pool.candidate("mini-4"), [5, 6, 7])
    pipeline = StableDiffusionPipeline.from_pretrained(miniature_pool.parent / "sd")
    options = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "np"}
    expected = pipeline(
        PROMPTS,
        negative_prompt=[NEGATIVE] * 3,
        generator=[torch.Generator().manual_seed(seed) for seed in (5, 6, 7)],
        **options,
    ).images
    single = pipeline(
        PROMPTS[1], negative_prompt=NEGATIVE, generator=torch.Generator().manual_seed(6), **options
    ).images[0]
    assert _largest_difference(images, (expected * 255).round()) <= 1
    assert _largest_difference(images[1], (single * 255).round()) <= 1
    without = _generator(_pool(miniature_pool, tmp_path))
    assert (
        _largest_difference(images, without.generate(PROMPTS, pool.candidate("mini-4"), [5, 6, 7]))
        > 1
    )


@pytest.mark.parametrize("architecture", ["sd", "sdxl", "sd3", "flux", "qwen-image", "z-image"])
def test_a_negative_prompt_has_the_effect_that_the_pipeline_defines(
    architecture: str, architecture_pool: MakePool
):
    changes: dict[str, Any] = {"call": {"negative_prompt": NEGATIVE}}
    if architecture == "flux":
        changes |= {"guidance_kind": "true-cfg"}
    settings = ARCHITECTURES[architecture].settings
    changes["call"] = settings.get("call", {}) | changes["call"]
    pool = architecture_pool(architecture, **changes)
    generator = _generator(pool)
    images = generator.generate(PROMPTS[:2], pool.candidate("mini-2"), [7, 8])
    assert not any(row["problem"] for row in check_rows(str(pool.file), None))
    spec, pipeline = generator.spec, generator.pipeline
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    scale = "true_cfg_scale" if spec.guidance_kind == "true-cfg" else "guidance_scale"
    expected = pipeline(
        PROMPTS[:2],
        **{**spec.call, "negative_prompt": [NEGATIVE] * 2, scale: spec.guidance},
        height=spec.size,
        width=spec.size,
        num_inference_steps=2,
        generator=[torch.Generator().manual_seed(seed) for seed in (7, 8)],
        output_type="np",
    ).images
    assert _largest_difference(images, (expected * 255).round()) <= 1


def test_candidates_of_one_generator_have_their_own_negative_prompts(
    miniature_pool: Path, tmp_path: Path
):
    own: dict[str, Any] = {"steps": 2, "call": {"negative_prompt": NEGATIVE}}
    pool = _pool(miniature_pool, tmp_path, own, call={"negative_prompt": "a green star"})
    generator = _generator(pool)
    encoded = generator.encode(PROMPTS)
    names = ("mini-2", "mini-4", "mini-2")
    images = [generator.generate(PROMPTS, pool.candidate(n), [0, 1, 2], encoded) for n in names]
    assert (images[0] == images[2]).all(), "the settings of a candidate affect no other candidate"
    alone = _generator(_pool(miniature_pool, tmp_path, call=own["call"]))
    plain = pool.candidate("mini-2")
    assert (images[1] == alone.generate(PROMPTS, plain, [0, 1, 2])).all()
    assert _largest_difference(images[0], images[1]) > 1


def test_candidates_of_one_generator_have_their_own_text_encoding(architecture_pool: MakePool):
    shared = {"max_sequence_length": 64}
    pool = architecture_pool("flux", {"call": {"max_sequence_length": 8}}, call=shared)
    generator = _generator(pool)
    encoded = generator.encode(PROMPTS[:2])
    images = {
        name: generator.generate(PROMPTS[:2], pool.candidate(name), [0, 1], encoded)
        for name in ("mini-4", "other")
    }
    assert _largest_difference(images["mini-4"], images["other"]) > 0
    alone = _generator(architecture_pool("flux", call={"max_sequence_length": 8}))
    expected = alone.generate(PROMPTS[:2], pool.candidate("mini-4"), [0, 1])
    assert (images["other"] == expected).all()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several images per prompt": (
        {"call": {"num_images_per_prompt": 2}},
        r"\.call\.num_images_per_prompt: another setting .* set 'generate\.seeds' in params\.yaml",
    ),
    "number of steps": (
        {"call": {"num_inference_steps": 2}},
        r"\.call\.num_inference_steps: another setting .* set 'steps' of the candidate",
    ),
    "size": ({"call": {"height": 64}}, r"\.call\.height: another setting .* set 'size'"),
    "guidance": ({"call": {"guidance_scale": 2}}, r"guidance_scale: .* set 'guidance' instead"),
    "seeds": ({"call": {"generator": 1}}, r"call\.generator: another setting"),
    "type of the output": ({"call": {"output_type": "pil"}}, r"output_type: this argument"),
    "prompt": ({"call": {"prompt": "x"}}, r"call\.prompt: this argument differs between images"),
    "embeddings": ({"call": {"prompt_embeds": [1]}}, r"call\.prompt_embeds: this argument"),
    "image": ({"call": {"ip_adapter_image": "x.png"}}, r"call\.ip_adapter_image: this argument"),
    "second prompt of another pipeline": (
        {"call": {"prompt_2": "x"}},
        r"call\.prompt_2: StableDiffusionPipeline has no such argument",
    ),
    "misspelled argument": (
        {"call": {"clip_skp": 1}},
        r"call\.clip_skp: .* no such argument \(did you mean 'clip_skip'\?\)",
    ),
    "deprecated arguments of the pipeline": ({"call": {"kwargs": {}}}, r"no such argument"),
    "negative prompts per image": (
        {"call": {"negative_prompt": ["a", "b"]}},
        r"call\.negative_prompt: \['a', 'b'\] is not a text",
    ),
    "negative prompt without guidance": (
        {"guidance": 1.0, "call": {"negative_prompt": "x"}},
        r"call\.negative_prompt: .* no effect without guidance, .* 'mini-1' does not use",
    ),
    "value of another type": (
        {"call": {"clip_skip": "one"}},
        r"\.call: StableDiffusionPipeline fails with \{'clip_skip': 'one'\} \(.*\)\. Correct",
    ),
    "schedule with another number of steps": (
        {"call": {"timesteps": [900, 100]}},
        r"call\.timesteps: \[900, 100\] is not a list of 4 numbers",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_arguments_that_a_pool_cannot_set_are_refused_by_every_command(
    changes: dict[str, Any], message: str, miniature_pool: Path, tmp_path: Path
):
    pool = _pool(miniature_pool, tmp_path, **changes)
    (problem,) = {row["problem"] for row in check_rows(str(pool.file), None)}
    assert "\n" not in problem and problem.startswith(f"{pool.file}: generators.mini.call")
    with pytest.raises(InputError, match=message):
        cost_rows(str(pool.file), None)
    with pytest.raises(InputError, match=message):
        raise InputError(problem)
    if "fails with" not in message:  # values are checked when costs are counted, before a run
        with pytest.raises(InputError, match=message):
            GeneratorCache(pool, "cpu").prepare()


def test_candidates_with_a_cost_in_the_pool_file_are_checked_as_well(
    miniature_pool: Path, tmp_path: Path
):
    pool = _pool(miniature_pool, tmp_path, {"cost": 1.0, "call": {"clip_skip": "one"}})
    (problem,) = {row["problem"] for row in check_rows(str(pool.file), None)}
    assert "call: StableDiffusionPipeline fails with {'clip_skip': 'one'}" in problem
    with pytest.raises(InputError, match=r"call: StableDiffusionPipeline fails with"):
        _generator(pool).generate(PROMPTS[:1], pool.candidate("mini-4"), [0])

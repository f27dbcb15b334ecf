"""Every family of diffusion models, from a pool's file to images."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from catimage.errors import InputError
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.spec import Candidate
from tests.architectures import FAMILIES, SIZE
from tests.pool.generators.diffusion.conftest import MakePool

PROMPTS = ["a red ring", "two small stars on blue"]


@contextmanager
def first_inputs(denoiser: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """The noisy latents of each call."""
    seen: list[torch.Tensor] = []

    def look(_: object, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        value = args[0] if args else kwargs["hidden_states"]
        seen.append((torch.stack(value) if isinstance(value, list) else value).detach().clone())  # type: ignore[call-overload]

    hook = denoiser.register_forward_pre_hook(look, with_kwargs=True)
    yield seen
    hook.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_the_same_image_twice_and_one_initial_noise_at_every_step_count(
    family: str, family_pool: MakePool
):
    pool = family_pool(family)
    opened = GeneratorCache(pool, "cpu")
    opened.prepare()
    generator = opened.get("mini")
    encoded = generator.encode(PROMPTS)
    images = generator.generate(PROMPTS, pool.candidate("mini-2"), [7, 8], encoded)
    assert images.shape == (2, SIZE, SIZE, 3)
    assert images.dtype == np.uint8
    assert images[0].std() > 1
    assert (generator.generate(PROMPTS, pool.candidate("mini-2"), [7, 8]) == images).all(), (
        "the same, encoded by itself"
    )
    assert (
        generator.generate(PROMPTS, pool.candidate("mini-2"), [7, 9], encoded)[1] != images[1]
    ).any()
    noise = []
    for name in ("mini-2", "mini-3", "mini-4"):
        with first_inputs(_denoiser(generator)) as seen:
            generator.generate(PROMPTS, pool.candidate(name), [7, 8], encoded)
        noise.append(seen[0])
    for other in noise[1:]:
        torch.testing.assert_close(_normal(other), _normal(noise[0]))


def _denoiser(generator: object) -> torch.nn.Module:
    pipeline = generator.pipeline  # type: ignore[attr-defined]
    return getattr(pipeline, "unet", None) or pipeline.transformer


def _normal(noise: torch.Tensor) -> torch.Tensor:
    """Schedulers of the Euler kind scale their first input by its step's noise."""
    return noise / noise.std()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_image_of_the_plain_pipeline(family: str, family_pool: MakePool):
    import diffusers

    pool = family_pool(family)
    spec = pool.generators["mini"]
    ours = (
        GeneratorCache(pool, "cpu")
        .get("mini")
        .generate(PROMPTS, pool.candidate("mini-4"), [7, 8])[1]
    )
    plain = getattr(diffusers, spec.pipeline).from_pretrained(spec.weights, low_cpu_mem_usage=False)
    guidance = (
        {"true_cfg_scale": 2.0, "negative_prompt": ""}
        if spec.guidance_kind == "true-cfg"
        else {"guidance_scale": spec.guidance}
    )
    noise = torch.Generator().manual_seed(8)
    made = plain(
        prompt=PROMPTS[1],
        num_inference_steps=4,
        height=SIZE,
        width=SIZE,
        generator=noise,
        **guidance,
        **spec.call,
    ).images[0]
    assert np.abs(ours.astype(int) - np.asarray(made)).max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_passes_are_what_the_specification_says(family: str, family_pool: MakePool):
    pool = family_pool(family)
    generator = GeneratorCache(pool, "cpu").get("mini")
    with first_inputs(_denoiser(generator)) as seen:
        generator.generate(PROMPTS, pool.candidate("mini-2"), [0, 1])
    rows = sum(len(latents) for latents in seen)
    assert rows == 2 * len(PROMPTS) * (2 if pool.generators["mini"].guided else 1)


def test_a_pipeline_whose_text_cannot_be_encoded_apart_encodes_with_every_batch(
    family_pool: MakePool, monkeypatch: pytest.MonkeyPatch
):
    pool = family_pool("sd")
    apart = (
        GeneratorCache(pool, "cpu").get("mini").generate(PROMPTS, pool.candidate("mini-2"), [0, 1])
    )
    monkeypatch.setattr(
        "catimage.pool.generators.diffusion.generator.embedding_names", lambda _: ()
    )
    generator = GeneratorCache(pool, "cpu").get("mini")
    assert not generator.encode(PROMPTS).tensors
    together = generator.generate(PROMPTS, pool.candidate("mini-2"), [0, 1])
    assert np.abs(together.astype(int) - apart).max() <= 1


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_half_precision_makes_nearly_the_same_image(family: str, family_pool: MakePool):
    images = []
    for dtype in ("float32", "bfloat16"):
        pool = family_pool(family, dtype=dtype)
        generator = GeneratorCache(pool, "cpu").get("mini")
        assert {p.dtype for p in _denoiser(generator).parameters()} == {getattr(torch, dtype)}
        images.append(
            generator.generate(PROMPTS, Candidate(candidate="x", generator="mini", steps=1), [0, 1])
        )
    assert images[0].shape == images[1].shape


def test_images_that_are_not_numbers_are_said(family_pool: MakePool):
    pool = family_pool("qwen-image")  # one step of its schedule divides by zero
    with pytest.raises(
        InputError, match=r"the candidate 'mini-1' makes images that are not numbers"
    ):
        GeneratorCache(pool, "cpu").get("mini").generate(PROMPTS, pool.candidate("mini-1"), [0, 1])

"""All diffusion architectures: from a pool file to images."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from catimage.errors import InputError
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.spec import Candidate
from tests.architectures import ARCHITECTURES, SIZE
from tests.pool.generators.diffusion.conftest import MakePool

PROMPTS = ["a red ring", "two small stars on blue"]


@contextmanager
def recorded_inputs(denoiser: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Yield a list to which each call of the denoiser adds its noisy latents."""
    inputs: list[torch.Tensor] = []

    def record(_: object, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        value = args[0] if args else kwargs["hidden_states"]
        latents = torch.stack(value) if isinstance(value, list) else value
        inputs.append(latents.detach().clone())  # type: ignore[attr-defined]

    hook = denoiser.register_forward_pre_hook(record, with_kwargs=True)
    yield inputs
    hook.remove()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_seed_gives_the_same_image_twice_and_the_same_noise_for_all_step_counts(
    architecture: str, architecture_pool: MakePool
):
    pool = architecture_pool(architecture)
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    generator = cache.get("mini")
    encoded = generator.encode(PROMPTS)
    images = generator.generate(PROMPTS, pool.candidate("mini-2"), [7, 8], encoded)
    assert images.shape == (2, SIZE, SIZE, 3)
    assert images.dtype == np.uint8
    assert images[0].std() > 1
    assert (generator.generate(PROMPTS, pool.candidate("mini-2"), [7, 8]) == images).all(), (
        "prompts that are encoded in the call must give the same images"
    )
    assert (
        generator.generate(PROMPTS, pool.candidate("mini-2"), [7, 9], encoded)[1] != images[1]
    ).any()
    noise = []
    for name in ("mini-2", "mini-3", "mini-4"):
        with recorded_inputs(_denoiser(generator)) as inputs:
            generator.generate(PROMPTS, pool.candidate(name), [7, 8], encoded)
        noise.append(_unit_variance(inputs[0]))
    torch.testing.assert_close(noise[1], noise[0])
    torch.testing.assert_close(noise[2], noise[0])


def _denoiser(generator: object) -> torch.nn.Module:
    pipeline = generator.pipeline  # type: ignore[attr-defined]
    return getattr(pipeline, "unet", None) or pipeline.transformer


def _unit_variance(noise: torch.Tensor) -> torch.Tensor:
    """Scale noise to unit variance, since schedulers scale it by the noise level of the step."""
    return noise / noise.std()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_images_equal_those_of_the_pipeline_of_diffusers(
    architecture: str, architecture_pool: MakePool
):
    import diffusers

    pool = architecture_pool(architecture)
    spec = pool.generators["mini"]
    image = (
        GeneratorCache(pool, "cpu")
        .get("mini")
        .generate(PROMPTS, pool.candidate("mini-4"), [7, 8])[1]
    )
    pipeline = getattr(diffusers, spec.pipeline).from_pretrained(
        spec.weights, low_cpu_mem_usage=False
    )
    guidance = (
        {"true_cfg_scale": 2.0, "negative_prompt": ""}
        if spec.guidance_kind == "true-cfg"
        else {"guidance_scale": spec.guidance}
    )
    random_generator = torch.Generator().manual_seed(8)
    expected = pipeline(
        prompt=PROMPTS[1],
        num_inference_steps=4,
        height=SIZE,
        width=SIZE,
        generator=random_generator,
        **guidance,
        **spec.call,
    ).images[0]
    assert np.abs(image.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_denoiser_takes_two_passes_if_the_generator_is_guided(
    architecture: str, architecture_pool: MakePool
):
    pool = architecture_pool(architecture)
    generator = GeneratorCache(pool, "cpu").get("mini")
    with recorded_inputs(_denoiser(generator)) as inputs:
        generator.generate(PROMPTS, pool.candidate("mini-2"), [0, 1])
    rows = sum(len(latents) for latents in inputs)
    passes = 2 if pool.generators["mini"].guided else 1
    assert rows == 2 * len(PROMPTS) * passes  # two steps


def test_a_pipeline_whose_call_takes_no_embeddings_encodes_prompts_in_every_call(
    architecture_pool: MakePool, monkeypatch: pytest.MonkeyPatch
):
    pool = architecture_pool("sd")
    expected = (
        GeneratorCache(pool, "cpu").get("mini").generate(PROMPTS, pool.candidate("mini-2"), [0, 1])
    )
    monkeypatch.setattr(
        "catimage.pool.generators.diffusion.generator.embedding_names", lambda _: ()
    )
    generator = GeneratorCache(pool, "cpu").get("mini")
    assert not generator.encode(PROMPTS).tensors
    images = generator.generate(PROMPTS, pool.candidate("mini-2"), [0, 1])
    assert np.abs(images.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("architecture", ["sdxl", "flux"])
def test_images_are_generated_in_half_precision(architecture: str, architecture_pool: MakePool):
    images = []
    for dtype in ("float32", "bfloat16"):
        pool = architecture_pool(architecture, dtype=dtype)
        generator = GeneratorCache(pool, "cpu").get("mini")
        assert {p.dtype for p in _denoiser(generator).parameters()} == {getattr(torch, dtype)}
        images.append(
            generator.generate(PROMPTS, Candidate(candidate="x", generator="mini", steps=1), [0, 1])
        )
    assert images[0].shape == images[1].shape


def test_images_that_are_not_finite_are_refused(architecture_pool: MakePool):
    pool = architecture_pool(
        "qwen-image"
    )  # with one step, the scheduler of this pipeline divides by zero
    with pytest.raises(InputError, match=r"the images of the candidate 'mini-1' are not finite"):
        GeneratorCache(pool, "cpu").get("mini").generate(PROMPTS, pool.candidate("mini-1"), [0, 1])

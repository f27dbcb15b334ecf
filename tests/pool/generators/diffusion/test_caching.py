"""Caching methods: DeepCache, the methods of diffusers, and errors."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch

from catimage.errors import InputError
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.generators.diffusion.deepcache import deep_blocks, deepcache
from catimage.pool.spec import Pool
from tests.pool.generators.diffusion.conftest import MakePool

PROMPTS = ["a red ring", "two small stars on blue"]


def _images(pool: Pool, name: str, cache: GeneratorCache) -> np.ndarray:
    """Return the images of a candidate for all prompts."""
    return cache.get("mini").generate(PROMPTS, pool.candidate(name), [0, 1])


def _hooks(model: torch.nn.Module) -> list[str]:
    """Return the names of the hooks of diffusers in a model."""
    return [
        name
        for module in model.modules()
        for name in getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
    ]


@pytest.mark.parametrize("architecture", ["sd", "sdxl"])
def test_deepcache_with_interval_one_generates_the_images_of_the_plain_unet(
    architecture: str, architecture_pool: MakePool
):
    pool = architecture_pool(architecture, {"cache": {"method": "deepcache", "interval": 1}})
    cache = GeneratorCache(pool, "cpu")
    assert (_images(pool, "other", cache) == _images(pool, "mini-4", cache)).all()


def test_deepcache_computes_deep_blocks_at_steps_0_n_2n_and_shallow_ones_at_every_step(
    architecture_pool: MakePool,
):
    pool = architecture_pool("sd", {"cache": {"method": "deepcache", "interval": 3}})
    cache = GeneratorCache(pool, "cpu")
    unet = cache.get("mini").pipeline.unet
    plain, deep = _images(pool, "mini-4", cache), deep_blocks(unet)
    shallow = [unet.conv_in, unet.up_blocks[-1].resnets[-1], unet.conv_out]
    calls = dict.fromkeys([*deep, *shallow], 0)
    with ExitStack() as stack:
        for module in calls:
            first_layer = next(
                m
                for m in module.modules()
                if not list(m.children()) and any(True for _ in m.parameters())
            )

            def count(*_: object, module: Any = module) -> None:
                calls[module] += 1

            stack.callback(first_layer.register_forward_hook(count).remove)
        cached = _images(pool, "other", cache)
    assert {calls[block] for block in deep} == {2}, (
        "deep blocks must be computed at steps 0 and 3 of 4"
    )
    assert {calls[block] for block in shallow} == {4}
    assert (cached != plain).any()


def test_a_cache_is_used_for_one_candidate_only_and_is_empty_at_the_start_of_each_batch(
    architecture_pool: MakePool,
):
    for architecture, method in (
        ("sd", {"method": "deepcache", "interval": 3}),
        ("flux", {"method": "first-block", "threshold": 10.0}),
    ):
        pool = architecture_pool(architecture, {"cache": method})
        cache = GeneratorCache(pool, "cpu")
        plain, cached = _images(pool, "mini-4", cache), _images(pool, "other", cache)
        pipeline = cache.get("mini").pipeline
        assert _hooks(getattr(pipeline, "unet", None) or pipeline.transformer) == []
        assert (_images(pool, "other", cache) == cached).all()
        assert (_images(pool, "mini-4", cache) == plain).all()
        assert (cached != plain).any()


def test_the_hooks_of_deepcache_are_removed_after_an_error(architecture_pool: MakePool):
    unet = GeneratorCache(architecture_pool("sd"), "cpu").get("mini").pipeline.unet
    with pytest.raises(KeyError), deepcache(unet, 2):
        assert _hooks(unet)
        raise KeyError
    assert _hooks(unet) == []


OPTIONS_OF_METHOD = {
    "first-block": {"threshold": 0.2},
    "faster": {"spatial_attention_block_skip_range": 2, "tensor_format": "BCHW"},
    "mag": {"threshold": 1.0, "mag_ratios": [1.0] * 4},
    "pyramid-attention": {
        "spatial_attention_block_skip_range": 2,
        "spatial_attention_timestep_skip_range": [0, 1000],
    },
    "taylor-seer": {"cache_interval": 2, "disable_cache_before_step": 1},
}


@pytest.mark.parametrize("method", OPTIONS_OF_METHOD)
def test_caching_methods_of_diffusers_change_only_the_images_of_candidates_that_use_them(
    method: str, architecture_pool: MakePool
):
    pool = architecture_pool("flux", {"cache": {"method": method, **OPTIONS_OF_METHOD[method]}})
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    plain, cached = _images(pool, "mini-4", cache), _images(pool, "other", cache)
    assert (cached != plain).any()
    assert np.abs(cached.astype(int) - plain).mean() < 60
    assert (_images(pool, "mini-4", cache) == plain).all()


UNSUPPORTED_METHODS = {
    "unknown method": (
        "sd",
        {"method": "deepcach"},
        r"there is no caching method 'deepcach' \(did you mean 'deepcache'\?\)",
    ),
    "unknown option": (
        "sd",
        {"method": "deepcache", "intervall": 3},
        r"no such option \(did you mean 'interval'\?\)",
    ),
    "an interval of zero": (
        "sd",
        {"method": "deepcache", "interval": 0},
        r"cache\.interval: 0 is not a positive integer",
    ),
    "a method for transformers on a UNet": (
        "sd",
        {"method": "first-block"},
        r"'first-block' does not support UNet2DConditionModel\. Set 'deepcache'",
    ),
    "a method for UNets on a transformer": (
        "flux",
        {"method": "deepcache"},
        r"'deepcache' does not support FluxTransformer2DModel\. Set one of",
    ),
    "unknown option of diffusers": (
        "flux",
        {"method": "first-block", "treshold": 1},
        r"cache\.treshold: .*\(did you mean 'threshold'\?\)",
    ),
    "a model without caching": (
        "z-image",
        {"method": "first-block"},
        r"diffusers has no caching for ZImageTransformer2DModel",
    ),
}


@pytest.mark.parametrize(
    ("architecture", "cache", "message"), UNSUPPORTED_METHODS.values(), ids=UNSUPPORTED_METHODS
)
def test_unsupported_methods_are_reported_before_loading(
    architecture: str, cache: dict[str, Any], message: str, architecture_pool: MakePool
):
    with pytest.raises(InputError, match=message) as caught:
        GeneratorCache(architecture_pool(architecture, {"cache": cache}), "cpu").prepare()
    assert "\n" not in str(caught.value)


def test_an_error_of_diffusers_is_reported_and_leaves_the_model_unchanged(
    architecture_pool: MakePool,
):
    pool = architecture_pool("flux", {"cache": {"method": "mag"}})
    cache = GeneratorCache(pool, "cpu")
    plain = _images(pool, "mini-4", cache)
    with pytest.raises(
        InputError,
        match=(
            r"generators\.mini\.cache: 'mag' cannot be applied to FluxTransformer2DModel"
            r" \(.*mag_ratios"
        ),
    ):
        _images(pool, "other", cache)
    assert (_images(pool, "mini-4", cache) == plain).all()

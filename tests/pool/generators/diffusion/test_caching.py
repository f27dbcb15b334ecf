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


def _images(pool: Pool, name: str, opened: GeneratorCache | None = None) -> np.ndarray:
    return (
        (opened or GeneratorCache(pool, "cpu"))
        .generator("mini")
        .generate(PROMPTS, pool.candidate(name), [0, 1])
    )


def _hooks(model: torch.nn.Module) -> list[str]:
    return [
        name
        for module in model.modules()
        for name in getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
    ]


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_deepcache_at_interval_one_is_the_plain_unet(family: str, family_pool: MakePool):
    pool = family_pool(family, {"cache": {"method": "deepcache", "interval": 1}})
    opened = GeneratorCache(pool, "cpu")
    assert (_images(pool, "other", opened) == _images(pool, "mini-4", opened)).all()


def test_deepcache_computes_deep_blocks_at_steps_0_n_2n_and_the_shallow_ones_always(
    family_pool: MakePool,
):
    pool = family_pool("sd", {"cache": {"method": "deepcache", "interval": 3}})
    opened = GeneratorCache(pool, "cpu")
    unet = opened.get("mini").pipeline.unet
    plain, deep = _images(pool, "mini-4", opened), deep_blocks(unet)
    shallow = [unet.conv_in, unet.up_blocks[-1].resnets[-1], unet.conv_out]
    calls = dict.fromkeys([*deep, *shallow], 0)
    with ExitStack() as stack:
        for module in calls:
            inner = next(
                m
                for m in module.modules()
                if not list(m.children()) and any(True for _ in m.parameters())
            )

            def count(*_: object, module: Any = module) -> None:
                calls[module] += 1

            stack.callback(inner.register_forward_hook(count).remove)
        cached = _images(pool, "other", opened)
    assert {calls[block] for block in deep} == {2}, "steps 0 and 3 of 4"
    assert {calls[block] for block in shallow} == {4}
    assert (cached != plain).any()


def test_a_cache_is_one_candidates_and_starts_afresh_with_every_batch(family_pool: MakePool):
    for family, cache in (
        ("sd", {"method": "deepcache", "interval": 3}),
        ("flux", {"method": "first-block", "threshold": 10.0}),
    ):
        pool = family_pool(family, {"cache": cache})
        opened = GeneratorCache(pool, "cpu")
        plain, cached = _images(pool, "mini-4", opened), _images(pool, "other", opened)
        pipeline = opened.get("mini").pipeline
        assert _hooks(getattr(pipeline, "unet", None) or pipeline.transformer) == []
        assert (_images(pool, "other", opened) == cached).all()
        assert (_images(pool, "mini-4", opened) == plain).all()
        assert (cached != plain).any()


def test_an_error_within_leaves_no_hook_behind(family_pool: MakePool):
    unet = GeneratorCache(family_pool("sd"), "cpu").get("mini").pipeline.unet
    with pytest.raises(KeyError), deepcache(unet, 2):
        assert _hooks(unet)
        raise KeyError
    assert _hooks(unet) == []


METHODS = {
    "first-block": {"threshold": 0.2},
    "faster": {"spatial_attention_block_skip_range": 2, "tensor_format": "BCHW"},
    "mag": {"threshold": 1.0, "mag_ratios": [1.0] * 4},
    "pyramid-attention": {
        "spatial_attention_block_skip_range": 2,
        "spatial_attention_timestep_skip_range": [0, 1000],
    },
    "taylor-seer": {"cache_interval": 2, "disable_cache_before_step": 1},
}


@pytest.mark.parametrize("method", METHODS)
def test_diffusers_methods_work_on_flux(method: str, family_pool: MakePool):
    pool = family_pool("flux", {"cache": {"method": method, **METHODS[method]}})
    opened = GeneratorCache(pool, "cpu")
    opened.prepare()
    plain, cached = _images(pool, "mini-4", opened), _images(pool, "other", opened)
    assert (cached != plain).any()
    assert np.abs(cached.astype(int) - plain).mean() < 60
    assert (_images(pool, "mini-4", opened) == plain).all()


BAD = {
    "no such method": (
        "sd",
        {"method": "deepcach"},
        r"there is no caching method 'deepcach' \(did you mean 'deepcache'\?\)",
    ),
    "no such option": (
        "sd",
        {"method": "deepcache", "intervall": 3},
        r"no such option \(did you mean 'interval'\?\)",
    ),
    "no whole number": (
        "sd",
        {"method": "deepcache", "interval": 0},
        r"cache\.interval: must be a whole number from 1.*found 0",
    ),
    "a transformer's, on a UNet": (
        "sd",
        {"method": "first-block"},
        r"'first-block' does not work on UNet2DConditionModel; take deepcache",
    ),
    "a UNet's, on a transformer": (
        "flux",
        {"method": "deepcache"},
        r"'deepcache' does not work on FluxTransformer2DModel; take a method",
    ),
    "no such option of diffusers": (
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


@pytest.mark.parametrize(("family", "cache", "message"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_said_before_anything_is_loaded(
    family: str, cache: dict[str, Any], message: str, family_pool: MakePool
):
    with pytest.raises(InputError, match=message) as caught:
        GeneratorCache(family_pool(family, {"cache": cache}), "cpu").prepare()
    assert "\n" not in str(caught.value)


def test_what_diffusers_refuses_is_said_and_leaves_the_model_as_it_was(family_pool: MakePool):
    pool = family_pool("flux", {"cache": {"method": "mag"}})
    opened = GeneratorCache(pool, "cpu")
    plain = _images(pool, "mini-4", opened)
    with pytest.raises(
        InputError, match=r"generators\.mini\.cache: 'mag' on FluxTransformer2DModel: .*mag_ratios"
    ):
        _images(pool, "other", opened)
    assert (_images(pool, "mini-4", opened) == plain).all()

"""Caching methods by name: DeepCache for UNets, diffusers' own for transformers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from catimage.errors import nearest
from catimage.pool.generators.diffusion.spec import DiffusersSpec

DEEPCACHE = "deepcache"

TRANSFORMER_METHODS: Mapping[str, str] = MappingProxyType(
    {
        "faster": "FasterCacheConfig",
        "first-block": "FirstBlockCacheConfig",
        "mag": "MagCacheConfig",
        "pyramid-attention": "PyramidAttentionBroadcastConfig",
        "sea": "SeaCacheConfig",
        "taylor-seer": "TaylorSeerCacheConfig",
        "text-kv": "TextKVCacheConfig",
    }
)
"""The class of :mod:`diffusers.hooks` that holds each method's options."""


def check_method(spec: DiffusersSpec) -> None:
    """Knows the caching method by its name, and DeepCache's one option.

    Raises:
        InputError: there is no such method, or ``interval`` is not a whole number from 1.
    """
    if spec.cache is None:
        return
    known = [DEEPCACHE, *TRANSFORMER_METHODS]
    if spec.cache.method not in known:
        near = nearest(spec.cache.method, known)
        raise spec.error(
            "cache",
            f"there is no caching method {spec.cache.method!r}{near}; there are"
            f" {', '.join(known)}.",
        )
    if spec.cache.method == DEEPCACHE:
        _check_options(spec, ["interval"])
        interval = spec.cache.options.get("interval", 3)
        if not isinstance(interval, int) or interval < 1:
            raise spec.error(
                "cache.interval",
                f"must be a whole number from 1, of steps from full to full (found {interval!r}).",
            )


def check_cache(spec: DiffusersSpec, pipeline: type[Any], denoiser: type[Any]) -> None:
    """Fits the caching method to the classes of the pipeline and of its denoiser, and its options
    to the method.

    Raises:
        InputError: they do not fit.
    """
    if spec.cache is None:
        return
    method, unet = spec.cache.method, hasattr(denoiser, "enable_freeu")
    if (method == DEEPCACHE) != unet:
        fitting = (
            DEEPCACHE if unet else f"a method for transformers ({', '.join(TRANSFORMER_METHODS)})"
        )
        raise spec.error(
            "cache", f"{method!r} does not work on {denoiser.__name__}; take {fitting}."
        )
    if method == DEEPCACHE:
        return
    if not hasattr(denoiser, "enable_cache"):
        raise spec.error(
            "cache", f"diffusers has no caching for {denoiser.__name__}; leave 'cache' out."
        )
    if spec.guided and not _names_passes(pipeline):
        raise spec.error(
            "cache",
            f"{pipeline.__name__} does not tell a cache its two passes apart; take no guidance, or"
            " no 'cache'.",
        )
    _check_options(
        spec,
        [
            f.name
            for f in fields(_config_class(method))
            if not (f.name.startswith("_") or "callback" in f.name)
        ],
    )


def _check_options(spec: DiffusersSpec, known: list[str]) -> None:
    assert spec.cache is not None
    for name in spec.cache.options:
        if name not in known:
            has = f"its options are {', '.join(known)}" if known else "it has no options"
            raise spec.error(
                f"cache.{name}",
                f"the caching method {spec.cache.method!r} has no such"
                f" option{nearest(name, known)}; {has}.",
            )


def _config_class(method: str) -> Any:
    import diffusers.hooks

    return getattr(diffusers.hooks, TRANSFORMER_METHODS[method])


def _names_passes(pipeline: type[Any]) -> bool:
    """Whether the pipeline says which of the two passes of guidance each call of the denoiser is."""
    return "cache_context" in inspect.unwrap(pipeline.__call__).__code__.co_names


@contextmanager
def caching(spec: DiffusersSpec, pipeline: Any, steps: int) -> Iterator[None]:
    """Within it, the pipeline's denoiser works with the caching method of ``spec``, from a fresh
    state; afterwards without.

    Raises:
        InputError: diffusers does not apply the method to this model.
    """
    if spec.cache is None:
        yield
    elif spec.cache.method == DEEPCACHE:
        from catimage.pool.generators.diffusion.deepcache import deepcache

        with deepcache(pipeline.unet, spec.cache.options.get("interval", 3)):
            yield
    else:
        with _transformer_cache(spec, pipeline, steps):
            yield


@contextmanager
def _transformer_cache(spec: DiffusersSpec, pipeline: Any, steps: int) -> Iterator[None]:
    transformer = pipeline.transformer
    _enable(spec, transformer, pipeline, steps)
    try:
        with nullcontext() if _names_passes(type(pipeline)) else transformer.cache_context("cond"):
            yield
    finally:
        transformer.disable_cache()


def _enable(spec: DiffusersSpec, transformer: Any, pipeline: Any, steps: int) -> None:
    assert spec.cache is not None
    config = None
    try:
        config = _config(spec, pipeline, steps)
        transformer.enable_cache(config)
    except (TypeError, ValueError) as error:
        if config is not None:
            transformer._cache_config = config  # what was hooked before it failed comes off again
            transformer.disable_cache()
        raise spec.error(
            "cache",
            f"{spec.cache.method!r} on {type(transformer).__name__}: {str(error).rstrip('.')}.",
        ) from error


def _config(spec: DiffusersSpec, pipeline: Any, steps: int) -> Any:
    """The method's options, and beside them what it must know of the run."""
    assert spec.cache is not None
    cls = _config_class(spec.cache.method)
    told = {
        "current_timestep_callback": lambda: pipeline.current_timestep,
        "num_inference_steps": steps,
        "is_guidance_distilled": not spec.guided,
    }
    names = {f.name for f in fields(cls)}
    return cls(**{k: v for k, v in told.items() if k in names} | spec.cache.options)

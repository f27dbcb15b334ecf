"""Caching methods of the denoiser: DeepCache for UNets, and those of diffusers for transformers.

A caching method reuses outputs of the denoiser's blocks from earlier steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from catimage.errors import nearest
from catimage.pool.generators.diffusion.spec import CachingMethod, DiffusersSpec

DEEPCACHE = "deepcache"
DEFAULT_INTERVAL = 3
"""Number of calls from one full call of DeepCache to the next, if the pool does not set it."""

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
"""The class in :mod:`diffusers.hooks` that has the options of each method."""


def deepcache_interval(spec: DiffusersSpec) -> int | None:
    """Return the number of calls from one full call of DeepCache to the next.

    None if the generator does not use DeepCache.
    """
    if spec.cache is None or spec.cache.method != DEEPCACHE:
        return None
    interval: int = spec.cache.options.get("interval", DEFAULT_INTERVAL)
    return interval


def check_method(spec: DiffusersSpec) -> None:
    """Check the name of the caching method, and the option ``interval`` of DeepCache.

    Raises:
        InputError: there is no such method or option, or ``interval`` is not a positive integer.
    """
    if spec.cache is None:
        return
    methods = [DEEPCACHE, *TRANSFORMER_METHODS]
    if spec.cache.method not in methods:
        raise spec.error(
            "cache",
            f"there is no caching method {spec.cache.method!r}"
            f"{nearest(spec.cache.method, methods)}. The methods are {', '.join(methods)}.",
        )
    if spec.cache.method == DEEPCACHE:
        _check_options(spec, spec.cache, ["interval"])
        interval = deepcache_interval(spec)
        if not isinstance(interval, int) or interval < 1:
            raise spec.error(
                "cache.interval",
                f"{interval!r} is not a positive integer. Set the number of steps from one full"
                " step to the next.",
            )


def check_cache(spec: DiffusersSpec, pipeline: type[Any], denoiser: type[Any]) -> None:
    """Check that the caching method supports the denoiser and has the given options.

    Args:
        spec: the generator's settings in the pool file.
        pipeline: class of the pipeline.
        denoiser: class of the denoiser.

    Raises:
        InputError: the method does not support the denoiser or pipeline, or has no such option.
    """
    if spec.cache is None:
        return
    method, is_unet = spec.cache.method, hasattr(denoiser, "enable_freeu")
    if (method == DEEPCACHE) != is_unet:
        methods = repr(DEEPCACHE) if is_unet else f"one of {', '.join(TRANSFORMER_METHODS)}"
        raise spec.error(
            "cache", f"{method!r} does not support {denoiser.__name__}. Set {methods}."
        )
    if method == DEEPCACHE:
        return
    if not hasattr(denoiser, "enable_cache"):
        raise spec.error(
            "cache", f"diffusers has no caching for {denoiser.__name__}. Remove 'cache'."
        )
    if spec.guided and not _has_cache_contexts(pipeline):
        raise spec.error(
            "cache",
            f"{pipeline.__name__} does not distinguish the passes of guidance, as caching requires."
            " Remove 'cache', or set 'guidance' to 1.",
        )
    names = [field.name for field in fields(_config_class(method))]
    internal = [name for name in names if name.startswith("_") or "callback" in name]
    _check_options(spec, spec.cache, [name for name in names if name not in internal])


def _check_options(spec: DiffusersSpec, cache: CachingMethod, names: list[str]) -> None:
    for name in cache.options:
        if name not in names:
            fix = f"The options are {', '.join(names)}" if names else "It has no options"
            raise spec.error(
                f"cache.{name}",
                f"the caching method {cache.method!r} has no such option{nearest(name, names)}."
                f" {fix}.",
            )


def _config_class(method: str) -> Any:
    import diffusers.hooks

    return getattr(diffusers.hooks, TRANSFORMER_METHODS[method])


def _has_cache_contexts(pipeline: type[Any]) -> bool:
    """Return whether the pipeline calls ``cache_context`` to tell its two passes apart."""
    return "cache_context" in inspect.unwrap(pipeline.__call__).__code__.co_names


@contextmanager
def caching(spec: DiffusersSpec, pipeline: Any, steps: int) -> Iterator[None]:
    """Use the caching method of ``spec`` in the pipeline's denoiser within the context.

    The cache is empty at the start of the context, and is removed at the end.

    Args:
        spec: the generator, with the settings of a candidate.
        pipeline: the loaded pipeline.
        steps: number of denoising steps.

    Raises:
        InputError: diffusers cannot apply the method to this model.
    """
    interval = deepcache_interval(spec)
    if spec.cache is None:
        yield
    elif interval is not None:
        from catimage.pool.generators.diffusion.deepcache import deepcache

        with deepcache(pipeline.unet, interval):
            yield
    else:
        with _transformer_cache(spec, spec.cache, pipeline, steps):
            yield


@contextmanager
def _transformer_cache(
    spec: DiffusersSpec, cache: CachingMethod, pipeline: Any, steps: int
) -> Iterator[None]:
    transformer, config = pipeline.transformer, None
    try:
        config = _config(spec, cache, pipeline, steps)
        transformer.enable_cache(config)
    except (TypeError, ValueError) as error:
        if config is not None:  # removes the hooks that were registered before the error
            transformer._cache_config = config
            transformer.disable_cache()
        raise spec.error(
            "cache",
            f"{cache.method!r} cannot be applied to {type(transformer).__name__}"
            f" ({str(error).rstrip('.')}). Correct its options, or remove 'cache'.",
        ) from error
    has_contexts = _has_cache_contexts(type(pipeline))
    try:
        with nullcontext() if has_contexts else transformer.cache_context("cond"):
            yield
    finally:
        transformer.disable_cache()


def _config(spec: DiffusersSpec, cache: CachingMethod, pipeline: Any, steps: int) -> Any:
    """Return the configuration of the method, from its options and from the run's properties."""
    cls = _config_class(cache.method)
    run_properties = {
        "current_timestep_callback": lambda: pipeline.current_timestep,
        "num_inference_steps": steps,
        "is_guidance_distilled": not spec.guided,
    }
    names = {field.name for field in fields(cls)}
    return cls(
        **{name: value for name, value in run_properties.items() if name in names} | cache.options
    )

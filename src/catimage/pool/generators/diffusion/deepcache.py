"""DeepCache (Ma et al. 2024) for the UNets of diffusers.

One call in N computes the whole UNet. The calls between compute the shallowest branch and reuse the
output of the other blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.hooks import HookRegistry, ModelHook

_HOOK_NAME = "catimage_deepcache"


class _CallCounter(ModelHook):  # type: ignore[misc]  # diffusers is not typed
    """Counts the calls of the UNet. Calls 0, N, 2N, ... are full."""

    def __init__(self, interval: int) -> None:
        super().__init__()
        self._interval, self._calls = interval, 0
        self.full = True

    def pre_forward(
        self, module: Any, *args: Any, **kwargs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.full = self._calls % self._interval == 0
        self._calls += 1
        return args, kwargs


class _CachedBlock(ModelHook):  # type: ignore[misc]
    """Computes a block in full calls, and returns the last output in the others."""

    def __init__(self, counter: _CallCounter) -> None:
        super().__init__()
        self._counter = counter
        self._output: Any = None

    def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        if self._counter.full:
            self._output = self.fn_ref.original_forward(*args, **kwargs)
        return self._output


def deep_blocks(unet: Any) -> list[Any]:
    """Return the modules that calls between two full ones skip.

    These are all but ``conv_in``, the last layer of the last up block, and ``conv_out``, so that
    the skip connection from ``conv_in`` is recomputed: branch 0 of the published package, which
    CATImage uses.
    """
    last = unet.up_blocks[-1]
    layers = [*last.resnets[:-1], *(getattr(last, "attentions", None) or [])[:-1]]
    return [*unet.down_blocks, unet.mid_block, *unet.up_blocks[:-1], *layers]


@contextmanager
def deepcache(unet: Any, interval: int) -> Iterator[None]:
    """Use DeepCache within the context: every ``interval``-th call, from the first on, is full.

    All hooks are removed at the end.
    """
    counter = _CallCounter(interval)
    hooks = [(unet, counter), *((block, _CachedBlock(counter)) for block in deep_blocks(unet))]
    for module, hook in hooks:
        HookRegistry.check_if_exists_or_initialize(module).register_hook(hook, _HOOK_NAME)
    try:
        yield
    finally:
        HookRegistry.check_if_exists_or_initialize(unet).remove_hook(_HOOK_NAME)

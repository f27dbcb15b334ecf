"""DeepCache (Ma et al. 2024) for the UNets of diffusers.

One of N calls, a full call, computes the whole UNet. The other calls compute only the shallowest
branch, and reuse the outputs of the other blocks from the last full call.
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
    """Computes a block in full calls, and returns the block's last output in the other calls."""

    def __init__(self, counter: _CallCounter) -> None:
        super().__init__()
        self._counter = counter
        self._output: Any = None

    def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        if self._counter.full:
            self._output = self.fn_ref.original_forward(*args, **kwargs)
        return self._output


def deep_blocks(unet: Any) -> list[Any]:
    """Return the modules that are not computed in calls between two full calls.

    These are all modules but ``conv_in``, the last layer of the last up block, and ``conv_out``.
    The skip connection from ``conv_in`` is therefore recomputed. This is branch 0 of the published
    DeepCache package, which the CATImage paper uses.
    """
    last = unet.up_blocks[-1]
    layers = [*last.resnets[:-1], *(getattr(last, "attentions", None) or [])[:-1]]
    return [*unet.down_blocks, unet.mid_block, *unet.up_blocks[:-1], *layers]


@contextmanager
def deepcache(unet: Any, interval: int) -> Iterator[None]:
    """Use DeepCache within the context.

    Args:
        unet: the UNet. Its hooks are removed at the end of the context.
        interval: number of calls from one full call to the next; the first call is full.
    """
    counter = _CallCounter(interval)
    hooks = [(unet, counter), *((block, _CachedBlock(counter)) for block in deep_blocks(unet))]
    for module, hook in hooks:
        HookRegistry.check_if_exists_or_initialize(module).register_hook(hook, _HOOK_NAME)
    try:
        yield
    finally:
        HookRegistry.check_if_exists_or_initialize(unet).remove_hook(_HOOK_NAME)

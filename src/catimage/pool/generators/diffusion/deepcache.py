"""DeepCache (Ma et al. 2024) for the UNets of diffusers: between full steps, all but the shallowest
branch is taken from the last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.hooks import HookRegistry, ModelHook

_NAME = "catimage_deepcache"


class _Count(ModelHook):  # type: ignore[misc]  # diffusers is not typed
    """Counts the calls of the UNet: calls 0, N, 2N... are full."""

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


class _Kept(ModelHook):  # type: ignore[misc]
    """Computes a block on full steps, and gives the same again on the steps between."""

    def __init__(self, count: _Count) -> None:
        super().__init__()
        self._count = count
        self._output: Any = None

    def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        if self._count.full:
            self._output = self.fn_ref.original_forward(*args, **kwargs)
        return self._output


def deep_blocks(unet: Any) -> list[Any]:
    """The modules that a step between two full ones leaves out: all but ``conv_in``, the last layer
    on the way up, and ``conv_out``.

    That is the package's branch 0, CATImage's DeepCache: the skip connection from ``conv_in`` is
    the one that is fresh.
    """
    last = unet.up_blocks[-1]
    layers = [*last.resnets[:-1], *(getattr(last, "attentions", None) or [])[:-1]]
    return [*unet.down_blocks, unet.mid_block, *unet.up_blocks[:-1], *layers]


@contextmanager
def deepcache(unet: Any, interval: int) -> Iterator[None]:
    """Within it, one call of ``unet`` in ``interval`` is full, the first among them; afterwards
    nothing of it is left.
    """
    count = _Count(interval)
    hooked = [(unet, count), *((block, _Kept(count)) for block in deep_blocks(unet))]
    for module, hook in hooked:
        HookRegistry.check_if_exists_or_initialize(module).register_hook(hook, _NAME)
    try:
        yield
    finally:
        HookRegistry.check_if_exists_or_initialize(unet).remove_hook(_NAME)

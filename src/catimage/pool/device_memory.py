"""The parts of generators that are loaded, and the use of one device's memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from catimage.common.devices import device_of

_WEIGHTS_FRACTION = 0.8
"""The fraction of a GPU's memory that weights may occupy. The remainder is for activations."""


class DeviceMemory:
    """The loaded parts of generators, such as text encoders and denoisers, shared by generators.

    The weights of all modules on the device occupy at most ``limit`` bytes. Before a generator
    runs, the least recently used modules of other generators are moved to the host's memory until
    the modules of this generator fit. A generator whose own modules exceed the limit is moved to
    the device without any others.

    Args:
        device: a device name of torch, or ``auto``.
        limit: maximum number of bytes; by default 80 per cent of the memory of a GPU, and no limit
            on a CPU.

    Attributes:
        device: the resolved device name.
        parts: loaded parts by the keys of :meth:`GeneratorKind.part_keys
            <catimage.pool.kind.GeneratorKind.part_keys>`.

    Raises:
        InputError: the device is unavailable.
    """

    def __init__(self, device: str = "auto", limit: int | None = None) -> None:
        self.device = device_of(device)
        if self.device.startswith("cuda"):
            _disable_tf32()
        self.limit = _default_limit(self.device) if limit is None else limit
        self.parts: dict[Hashable, Any] = {}
        self._on_device: dict[int, Any] = {}  # by id(), least recently used first
        self._over_limit = False

    def load(self, modules: Iterable[Any]) -> None:
        """Move torch modules to the device.

        Idle modules (all others on the device) are first moved to the host, the least recently used
        ones first, until the limit is met.
        """
        needed = {id(module): module for module in modules}
        if not self._over_limit and needed.keys() <= self._on_device.keys():
            # as in nearly all calls; sums no bytes
            self._on_device = {k: m for k, m in self._on_device.items() if k not in needed} | needed
            return
        idle = {key: module for key, module in self._on_device.items() if key not in needed}
        occupied = sum(map(module_bytes, [*needed.values(), *idle.values()]))
        for key, module in list(idle.items()):
            if self.limit is None or occupied <= self.limit:
                break
            idle.pop(key).to("cpu")
            occupied -= module_bytes(module)
        for key, module in needed.items():
            if key not in self._on_device:
                module.to(self.device)
        self._on_device = idle | needed
        self._over_limit = self.limit is not None and occupied > self.limit

    def evict(self, keys: Iterable[Hashable]) -> None:
        """Remove the parts with these keys. Their memory is freed when no generator uses them."""
        evicted = {id(self.parts.pop(key)) for key in keys if key in self.parts}
        self._on_device = {
            key: module for key, module in self._on_device.items() if key not in evicted
        }
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def module_bytes(module: Any) -> int:
    """Return the bytes of a module's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def _default_limit(device: str) -> int | None:
    """Return the bytes that weights may occupy on a GPU; None for a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return int(_WEIGHTS_FRACTION * torch.cuda.get_device_properties(device).total_memory)


def free_bytes(device: str) -> int | None:
    """Return the free memory of a device in bytes; None if the system does not report it."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _disable_tf32() -> None:
    """Let convolutions of a GPU compute with the precision of float32.

    PyTorch's default, TF32, rounds to 10 bits, with algorithms that depend on the size of the
    batch: the images of float32 models then differ by several grey levels between batches (up to 6
    on an H100). Models in float16 and bfloat16 are not affected.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False

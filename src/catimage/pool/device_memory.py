"""What is loaded on one device: parts that generators share, and which of them lie on the device
now.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from catimage.common.devices import device_of

_SHARE = 0.8
"""Of a GPU's memory, what weights may take; the rest is for activations."""


class Workshop:
    """Loaded parts of generators, by what identifies them, and their places on ``device``.

    Weights on a GPU take at most ``limit`` bytes together (80 per cent of its memory unless said
    otherwise): before a generator works, the modules that have not been used for longest make room
    for its own and wait in the host's memory.

    Raises:
        InputError: there is no such device.
    """

    def __init__(self, device: str = "auto", limit: int | None = None) -> None:
        self.device = device_of(device)
        self.limit = _default_limit(self.device) if limit is None else limit
        self.parts: dict[Hashable, Any] = {}
        self._there: dict[
            int, Any
        ] = {}  # modules on the device by identity, the one that has rested longest first

    def bring(self, modules: Iterable[Any]) -> None:
        """Moves torch modules onto the device, and others off it where the limit says so."""
        needed = {id(module): module for module in modules}
        resting = {key: module for key, module in self._there.items() if key not in needed}
        taken = sum(map(module_bytes, [*needed.values(), *resting.values()]))
        for key, module in list(resting.items()):
            if self.limit is None or taken <= self.limit:
                break
            resting.pop(key).to("cpu")
            taken -= module_bytes(module)
        for key, module in needed.items():
            if key not in self._there:
                module.to(self.device)
        self._there = resting | needed

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Forgets parts; their memory is free once no generator holds them."""
        gone = {id(self.parts.pop(key)) for key in keys if key in self.parts}
        self._there = {key: module for key, module in self._there.items() if key not in gone}
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def module_bytes(module: Any) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def _default_limit(device: str) -> int | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return int(_SHARE * torch.cuda.get_device_properties(device).total_memory)


def free_bytes(device: str) -> int | None:
    """Memory that is free on a device, in bytes; None where it cannot be known."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = dict(
            line.split(":", 1)
            for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        )
    except FileNotFoundError:
        return None
    return int(lines["MemAvailable"].split()[0]) * 1024

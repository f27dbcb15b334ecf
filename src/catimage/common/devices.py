"""Selection of the device to compute on."""

from __future__ import annotations

from catimage.errors import InputError


def device_of(name: str) -> str:
    """Return a device name of torch.

    Args:
        name: a device name of torch; ``auto`` is ``cuda`` if a GPU is available and else ``cpu``.

    Raises:
        InputError: torch does not know the device, or this machine does not have it.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r}: unavailable on this machine. Set it to 'auto' or 'cpu'."
        ) from error
    return name

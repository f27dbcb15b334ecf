"""Selection of the device to compute on."""

from __future__ import annotations

from catimage.errors import InputError


def device_of(name: str) -> str:
    """Return the name of a torch device that is available on this machine.

    Args:
        name: name of a torch device, or ``auto`` for ``cuda`` if a GPU is available and ``cpu``
            otherwise.

    Raises:
        InputError: the name is not that of a torch device, or the device is unavailable.
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

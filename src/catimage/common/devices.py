"""Which device to compute on."""

from __future__ import annotations

from catimage.errors import InputError


def device_of(name: str) -> str:
    """``auto`` is ``cuda`` where there is one and ``cpu`` elsewhere; other names are torch's.

    Raises:
        InputError: torch knows no such device, or this machine has none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r}: not to be had on this machine; set it to 'auto' or 'cpu'."
        ) from error
    return name

"""What an encoder's layers say of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


def token_means(layers: Sequence[torch.Tensor], there: torch.Tensor) -> NDArray[np.float16]:
    """The mean over each prompt's tokens of the states of every layer, (n, n_layers, width), within
    what half precision holds.

    Args:
        layers: states (n, length, width) of each layer.
        there: (n, length), which tokens are no padding.
    """
    weights = there.to(layers[0].dtype)
    weights = weights / weights.sum(1, keepdim=True)
    means = torch.stack([(states * weights[:, :, None]).sum(1) for states in layers], dim=1)
    largest = torch.finfo(torch.float16).max
    return np.asarray(means.clamp(-largest, largest).half().cpu().numpy())

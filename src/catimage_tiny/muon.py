"""The optimiser of the tiny denoiser: Muon (Jordan et al. 2024) for matrices and convolutions,
AdamW for the rest.

Muon replaces the momentum of a weight by the nearest orthogonal matrix. torch's own takes matrices
alone; a U-Net is mostly convolutions, which are matrices of (out, in x height x width).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


def orthogonalised(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearly the orthogonal factor of the polar decomposition of ``matrix`` (rows, columns), by a
    quintic Newton-Schulz iteration.

    Singular values come out between 0.7 and 1.2, which is enough for a direction of descent.
    """
    x: torch.Tensor = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, with an update's root mean square matched to AdamW's (0.2), so that
    learning rates carry over.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                mean = self.state[p].setdefault("momentum", torch.zeros_like(p.grad))
                mean.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(mean, group["momentum"]).flatten(1)  # Nesterov's
                scale = 0.2 * max(update.shape) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(orthogonalised(update).view_as(p), alpha=-group["lr"] * scale)


def optimisers(
    net: torch.nn.Module, rate: float, outer: tuple[str, ...]
) -> list[torch.optim.Optimizer]:
    """Muon for the inner matrices and convolutions of a model, AdamW for vectors and for its
    ``outer``, its first and last layers.
    """
    named = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
    inner = [p for n, p in named if p.ndim >= 2 and not n.startswith(outer)]
    rest = [p for n, p in named if p.ndim < 2 or n.startswith(outer)]
    made: list[torch.optim.Optimizer] = [Muon(inner, lr=rate)]
    return made + (
        [torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)] if rest else []
    )  # an adapter has no rest

"""Training of the tiny pool's next-scale generator: first its tokenizer, then its transformer (Infinity, section 3)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from catimage.pool.next_scale.quantiser import Quantised, downscale, quantise
from catimage.pool.next_scale.tokenizer import Decoder, Encoder
from catimage.pool.next_scale.transformer import NextScaleTransformer, tokens_of
from catimage.tiny.autoencoder import pixels_to_tensor, reconstruction_loss
from catimage.tiny.denoiser import Examples
from catimage.tiny.muon import optimisers
from catimage.tiny.schedule import cosine_rate

BITS = 16
SCALES = (1, 2, 3, 4, 6, 8)
ENCODER_WIDTHS = (160, 96)
DECODER_WIDTHS = (112, 80, 48)
OUTER = ("encoder.first.", "encoder.last.", "decoder.first.", "decoder.last.", "embed.", "topic.", "positions", "head.")
"""First and last layers, which Muon is not for."""


def bit_losses(made: Quantised, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What keeps the bits useful: (entropy, commitment).

    Entropy: that of each single bit less that of its mean over the batch (equation 5 of BSQ, bit by bit), averaged over scales; -ln 2
    where every bit is certain and even. Commitment: squared distance from the features to the sum of their codes, in units of a code.
    """
    bits = features.shape[1]
    terms = []
    for residual in made.residuals:
        p = torch.sigmoid(2 * bits**0.5 * residual)
        terms.append(_entropy(p).mean() - _entropy(p.mean((0, 2, 3))).mean())
    return torch.stack(terms).mean(), bits * F.mse_loss(features, made.sums[-1].detach())


def _entropy(p: torch.Tensor) -> torch.Tensor:
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * (1 - p).log())


def decoded_sums(made: Quantised, share: float) -> torch.Tensor:
    """For a ``share`` of the images the sum after a random scale, so that coarse scales tell as much as they can; else the last."""
    stacked = torch.stack(made.sums)
    count, n = stacked.shape[:2]
    last = torch.where(torch.rand(n) < share, torch.randint(0, count - 1, (n,)), torch.tensor(count - 1))
    return stacked[last.to(stacked.device), torch.arange(n, device=stacked.device)]


def train_tokenizer(
    encoder: Encoder, decoder: Decoder, images: np.ndarray, out: Path, steps: int, batch: int = 24, rate: float = 2e-3,
    scales: Sequence[int] = SCALES, seed: int = 0,
) -> None:  # fmt: skip
    """Trains and writes moving averages of both to ``out/tokenizer.pt``.

    A quarter of the images is decoded from its first scales alone, and half have up to a tenth of their bits turned over.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder}).to(memory_format=torch.channels_last)
    ema: Any = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    both = optimisers(model, rate, OUTER)
    out.mkdir(parents=True, exist_ok=True)
    start, running = time.time(), np.zeros(3)
    for step in range(steps):
        for group in (g for optimiser in both for g in optimiser.param_groups):
            group["lr"] = cosine_rate(step, steps, rate)
        x = pixels_to_tensor(images[np.sort(rng.choice(len(images), batch, replace=False))])
        features = encoder(x)
        flips = 0.1 * torch.rand(batch) * (torch.rand(batch) < 0.5)
        made = quantise(features, scales, flips)
        entropy, commitment = bit_losses(made, features)
        pixels = reconstruction_loss(decoder(decoded_sums(made, 0.25)), x)
        loss = pixels + 0.01 * entropy + 0.05 * commitment
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in both:
            optimiser.step()
            optimiser.zero_grad()
        ema.update_parameters(model)
        running += (np.array([pixels.item(), entropy.item(), commitment.item()]) - running) * (1 if step == 0 else 0.02)
        if step % 100 == 99 or step == steps - 1:
            told = " ".join(f"{v:.4f}" for v in running)
            print(f"next-scale tokenizer {step + 1}/{steps} pixels, entropy, commitment {told} {time.time() - start:.0f} s", flush=True)
            torch.save(ema.module.state_dict(), out / "tokenizer.pt")


@torch.no_grad()
def encode_features(encoder: Encoder, images: np.ndarray, batch: int = 256) -> torch.Tensor:
    """What the tokenizer quantises, fp16 (n, bits, 8, 8)."""
    return torch.cat([encoder(pixels_to_tensor(images[i : i + batch])).half() for i in range(0, len(images), batch)])


def bit_loss(model: NextScaleTransformer, features: torch.Tensor, words: torch.Tensor, scales: Sequence[int]) -> torch.Tensor:
    """Binary cross entropy of the next scales' bits, with self-correction (section 3.4): up to 0.3 of each image's bits are turned over.

    A scale's weight is its side, not its area, so that the few tokens which place the objects count (as Infinity's reweighting by scale).
    """
    made = quantise(features, scales, 0.3 * torch.rand(len(features), device=features.device))
    logits, _ = model(scale_inputs(made.sums, scales), model.read(words))
    bits = torch.cat([tokens_of(b) for b in made.bits], 1).float()
    weights = torch.cat([torch.full((side * side,), 1 / side) for side in scales]).to(bits.device)
    losses = F.binary_cross_entropy_with_logits(logits, bits, reduction="none").mean((0, 2))
    return (losses * weights).sum() / weights.sum()


def scale_inputs(sums: Sequence[torch.Tensor], scales: Sequence[int]) -> torch.Tensor:
    """What the transformer sees when it predicts each scale, all in a row: (n, tokens, bits)."""
    before = [torch.zeros_like(sums[0]), *sums[:-1]]
    return torch.cat([tokens_of(downscale(s, side)) for s, side in zip(before, scales, strict=True)], 1)


def train_transformer(
    model: NextScaleTransformer, examples: Examples, out: Path, steps: int, batch: int = 48, rate: float = 2e-3,
    scales: Sequence[int] = SCALES, seed: int = 0,
) -> None:  # fmt: skip
    """Trains and writes the moving average of the weights to ``out/transformer.pt``, every 100 steps and at the end.

    Args:
        examples: Their ``latents`` are those of :func:`encode_features`; one caption in ten is the empty one (classifier-free guidance).
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    ema: Any = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    both = optimisers(model, rate, OUTER)
    start, running = time.time(), 0.0
    for step in range(steps):
        for group in (g for optimiser in both for g in optimiser.param_groups):
            group["lr"] = cosine_rate(step, steps, rate)
        loss = bit_loss(model, *examples.batch(batch, rng, "cpu", drop=0.1), scales)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in both:
            optimiser.step()
            optimiser.zero_grad()
        ema.update_parameters(model)
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 99 or step == steps - 1:
            print(f"next-scale transformer {step + 1}/{steps} loss {running:.4f} {time.time() - start:.0f} s", flush=True)
            torch.save(ema.module.state_dict(), out / "transformer.pt")

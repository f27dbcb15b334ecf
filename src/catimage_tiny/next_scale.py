"""Training of the tiny pool's next-scale generator: first its tokenizer, then its transformer
(Infinity, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from catimage.pool.generators.next_scale.model import Architecture, NextScaleModel
from catimage.pool.generators.next_scale.quantiser import Quantised, downscale, quantise
from catimage.pool.generators.next_scale.tokenizer import Decoder, Encoder
from catimage.pool.generators.next_scale.transformer import NextScaleTransformer, tokens_of
from catimage.pool.generators.next_scale.weights import save_model
from catimage_tiny.autoencoder import pixels_to_tensor, reconstruction_loss
from catimage_tiny.clip import WIDTH
from catimage_tiny.denoiser import Examples
from catimage_tiny.training import train

SHAPE = Architecture(
    bits=24,
    scales=(1, 2, 3, 4, 6, 8),
    width=160,
    layers=5,
    heads=5,
    expansion=3,
    text_width=WIDTH,
    decoder_widths=(112, 80, 48),
)
"""The shipped model: 1.8 M parameters of transformer over 130 positions, 0.6 M of decoder."""
ENCODER_WIDTHS = (160, 96)
OUTER = (
    "encoder.first.",
    "encoder.last.",
    "decoder.first.",
    "decoder.last.",
    "embed.",
    "topic.",
    "positions",
    "head.",
)
"""First and last layers, which Muon is not for."""


class Tokenizer(torch.nn.Module):
    """An untrained encoder and decoder of one architecture; at :data:`SHAPE`, 0.18 and 0.26 GFLOP
    an image.
    """

    def __init__(
        self, shape: Architecture = SHAPE, encoder_widths: tuple[int, int] = ENCODER_WIDTHS
    ) -> None:
        super().__init__()
        self.scales = shape.scales
        self.encoder = Encoder(shape.bits, encoder_widths)
        self.decoder = Decoder(shape.bits, shape.decoder_widths)


def bit_losses(made: Quantised, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What keeps the bits useful: (entropy, commitment).

    Entropy: that of each single bit less that of its mean over the batch (as in binary spherical
    quantisation, bit by bit), averaged over the scales; -ln 2 where every bit is certain and even.
    Commitment: squared distance from the features to the sum of their codes, in units of a code.
    """
    bits, terms = features.shape[1], []
    for residual in made.residuals:
        likely = torch.sigmoid(2 * bits**0.5 * residual)
        terms.append(_entropy(likely).mean() - _entropy(likely.mean((0, 2, 3))).mean())
    return torch.stack(terms).mean(), bits * F.mse_loss(features, made.sums[-1].detach())


def _entropy(p: torch.Tensor) -> torch.Tensor:
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * (1 - p).log())


def decoded_sums(made: Quantised, share: float) -> torch.Tensor:
    """For a ``share`` of the images the sum after a random scale, so that coarse scales tell as
    much as they can; else the last.
    """
    sums = torch.stack(made.sums)
    count, n = sums.shape[:2]
    last = torch.where(torch.rand(n) < share, torch.randint(0, count - 1, (n,)), count - 1)
    return sums[last.to(sums.device), torch.arange(n, device=sums.device)]


def tokenizer_loss(model: Tokenizer, pixels: torch.Tensor) -> torch.Tensor:
    """Reconstruction, entropy and commitment of (n, 3, 64, 64).

    An eighth of the images is decoded from its first scales alone, and a quarter has up to a tenth
    of its bits turned over.
    """
    n = len(pixels)
    flips = 0.1 * torch.rand(n) * (torch.rand(n) < 0.25)
    features = model.encoder(pixels)
    made = quantise(features, model.scales, flips.to(pixels.device))
    entropy, commitment = bit_losses(made, features)
    return (
        reconstruction_loss(model.decoder(decoded_sums(made, 0.125)), pixels)
        + 0.01 * entropy
        + 0.05 * commitment
    )


def train_tokenizer(
    model: Tokenizer,
    images: np.ndarray,
    out: Path,
    steps: int,
    batch: int = 24,
    rate: float = 2e-3,
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Trains on uint8 (n, 64, 64, 3) and writes the moving average of the weights to
    ``out/tokenizer.pt``.
    """
    rng = np.random.default_rng(seed)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss() -> torch.Tensor:
        return tokenizer_loss(
            model,
            pixels_to_tensor(images[np.sort(rng.choice(len(images), batch, replace=False))]).to(
                device
            ),
        )

    _train(model, loss, out / "tokenizer.pt", steps, rate, seed)


def train_transformer(
    model: NextScaleTransformer,
    examples: Examples,
    out: Path,
    steps: int,
    batch: int = 48,
    rate: float = 2e-3,
    scales: Sequence[int] = SHAPE.scales,
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Trains and writes the moving average of the weights to ``out/transformer.pt``.

    Args:
        examples: Their ``latents`` are those of :func:`encode_features`; one caption in ten is the
            empty one (classifier-free guidance).
    """
    rng = np.random.default_rng(seed)
    model.to(device)

    def loss() -> torch.Tensor:
        return bit_loss(model, *examples.batch(batch, rng, device, drop=0.1), scales)

    _train(model, loss, out / "transformer.pt", steps, rate, seed)


def _train(
    model: torch.nn.Module,
    loss_of: Callable[[], torch.Tensor],
    file: Path,
    steps: int,
    rate: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    file.parent.mkdir(parents=True, exist_ok=True)

    def save(made: torch.nn.Module) -> None:
        torch.save(made.state_dict(), file)

    train(
        model,
        loss_of,
        save,
        f"next-scale {file.stem}",
        steps,
        rate,
        OUTER,
        averaging=0.995,
        every=100,
    )


@torch.no_grad()
def encode_features(
    tokenizer: Tokenizer, images: np.ndarray, device: str = "cpu", batch: int = 256
) -> torch.Tensor:
    """What the tokenizer quantises, fp16 (n, bits, 8, 8)."""
    rows = (
        pixels_to_tensor(np.array(images[i : i + batch])).to(device)
        for i in range(0, len(images), batch)
    )
    return torch.cat([tokenizer.encoder(x).half().cpu() for x in rows])


def scale_inputs(sums: Sequence[torch.Tensor], scales: Sequence[int]) -> torch.Tensor:
    """What the transformer sees when it predicts each scale, all in a row: (n, tokens, bits)."""
    before = [torch.zeros_like(sums[0]), *sums[:-1]]
    return torch.cat(
        [tokens_of(downscale(s, side)) for s, side in zip(before, scales, strict=True)], 1
    )


def bit_loss(
    model: NextScaleTransformer, features: torch.Tensor, words: torch.Tensor, scales: Sequence[int]
) -> torch.Tensor:
    """Binary cross entropy of every scale's bits given those before, with self-correction: up to
    0.3 of an image's bits are turned over.

    A scale's weight is its side, not its area, so that the few tokens which place the objects count
    (Infinity reweights likewise).
    """
    made = quantise(features, scales, 0.3 * torch.rand(len(features), device=features.device))
    logits, _ = model(scale_inputs(made.sums, scales), model.read(words))
    bits = torch.cat([tokens_of(b) for b in made.bits], 1).float()
    weights = torch.cat([torch.full((side * side,), 1 / side) for side in scales]).to(bits.device)
    losses = F.binary_cross_entropy_with_logits(logits, bits, reduction="none").mean((0, 2))
    return (losses * weights).sum() / weights.sum()


def assemble_next_scale(build: Path, out: Path) -> None:
    """Writes the trained transformer and decoder of the folder ``build`` as a pool's folder of
    weights.
    """
    tokenizer, model = trained_tokenizer(build), NextScaleModel(SHAPE)
    model.decoder.load_state_dict(tokenizer.decoder.state_dict())
    model.transformer.load_state_dict(torch.load(build / "transformer.pt", weights_only=True))
    save_model(model, out)


def trained_tokenizer(build: Path) -> Tokenizer:
    """What :func:`train_tokenizer` wrote."""
    tokenizer = Tokenizer()
    tokenizer.load_state_dict(torch.load(build / "tokenizer.pt", weights_only=True))
    return tokenizer.eval()

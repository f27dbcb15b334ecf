"""``make weights``: trains the tiny pool from scratch and copies it into the package. Finished
parts are not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catimage_tiny.data import Scenes, training_scenes

if TYPE_CHECKING:
    from catimage_tiny.denoiser import Examples

STEPS = {
    "clip": 1200,
    "autoencoder": 5000,
    "denoiser": 6000,
    "lightning": 600,
    "turbo": 900,
    "patterns": 3200,
    "tokenizer": 3000,
    "transformer": 6000,
}
"""Training steps of each part."""
ORDINARY = ("simple", "middling", "crowded")
"""What the generators learn from; patterned scenes are tiny-patterns's alone."""
PACKAGE = Path(__file__).parents[1] / "catimage" / "pools" / "tiny"


def main() -> None:
    """Parses the command line and trains what is not in the build folder yet."""
    parser = argparse.ArgumentParser(prog="python -m catimage_tiny", description=__doc__)
    parser.add_argument(
        "--build",
        type=Path,
        default=Path("build/tiny"),
        help="where training writes (git ignores it)",
    )
    parser.add_argument("--out", type=Path, default=PACKAGE, help="where the finished pool goes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--guidance", type=float, default=3.0, help="that the distilled denoisers have built in"
    )
    for part, steps in STEPS.items():
        parser.add_argument(f"--{part}-steps", type=int, default=steps)
    args = parser.parse_args()
    everything = training_scenes(args.build)
    _clip(everything, args)
    _autoencoder(everything, args)
    scenes = training_scenes(args.build, ORDINARY, "ordinary")
    _denoiser(scenes, args)
    _lightning(scenes, args)
    _turbo(scenes, args)
    _patterns(args)
    _next_scale(scenes, args)
    from catimage_tiny.pipeline import assemble

    assemble(args.build, args.out)


def _done(folder: Path) -> bool:
    return (folder / ".done").exists()


def _clip(scenes: Scenes, args: argparse.Namespace) -> None:
    from catimage_tiny.clip import train_clip

    out = args.build / "clip"
    if not _done(out):
        train_clip(
            np.asarray(scenes.images), scenes.captions, out, args.clip_steps, device=args.device
        )
        (out / ".done").touch()


def _autoencoder(scenes: Scenes, args: argparse.Namespace) -> None:
    from catimage_tiny.autoencoder import new_autoencoder, train_autoencoder

    out = args.build / "vae"
    if not _done(out):
        train_autoencoder(
            new_autoencoder(), scenes.images, out, args.autoencoder_steps, device=args.device
        )
        (out / ".done").touch()


def _examples(scenes: Scenes, args: argparse.Namespace, name: str = "examples") -> Examples:
    """Latents and captions of the scenes, encoded once and kept in the build folder."""
    import torch
    from diffusers import AutoencoderKL

    from catimage_tiny.denoiser import Examples, encode_captions, encode_latents, text_encoder_from

    kept = args.build / f"{name}.pt"
    if not kept.exists():
        text_encoder, tokenizer = text_encoder_from(args.build / "clip")
        vae = AutoencoderKL.from_pretrained(args.build / "vae").to(args.device)
        vae.eval()
        made = {
            "latents": encode_latents(vae, scenes.images, args.device),
            "words": encode_captions(
                text_encoder.to(args.device), tokenizer, scenes.captions, args.device
            ),
            "nothing": encode_captions(text_encoder, tokenizer, [""], args.device)[0],
        }
        torch.save(made, kept)
    return Examples(**torch.load(kept, mmap=True, weights_only=True))


def _denoiser(scenes: Scenes, args: argparse.Namespace) -> None:
    from catimage_tiny.denoiser import new_denoiser, train_denoiser

    out = args.build / "unet"
    if not _done(out):
        train_denoiser(
            new_denoiser(), _examples(scenes, args), out, args.denoiser_steps, device=args.device
        )
        (out / ".done").touch()


def _lightning(scenes: Scenes, args: argparse.Namespace) -> None:
    """Four steps, each of which does the work of two guided ones of the teacher."""
    from catimage_tiny.denoiser import train_denoiser
    from catimage_tiny.distillation import guided_velocity, noise_path, progressive_loss

    out, examples = args.build / "lightning", _examples(scenes, args)
    if not _done(out):
        teacher = guided_velocity(
            _trained(args.build / "unet", args.device), examples.nothing, args.guidance
        )
        loss = progressive_loss(noise_path(), teacher, steps=4)
        student = _trained(args.build / "unet", args.device)
        train_denoiser(
            student,
            examples,
            out,
            args.lightning_steps,
            loss,
            rate=5e-4,
            drop=0,
            averaging=0.99,
            device=args.device,
        )
        (out / ".done").touch()


def _turbo(scenes: Scenes, args: argparse.Namespace) -> None:
    """One step, which does the work of tiny-lightning's four."""
    from catimage_tiny.denoiser import train_denoiser
    from catimage_tiny.distillation import guided_velocity, noise_path, one_step_loss

    out, examples = args.build / "turbo", _examples(scenes, args)
    if not _done(out):
        teacher = guided_velocity(
            _trained(args.build / "lightning", args.device), examples.nothing, 1
        )
        student = _trained(args.build / "lightning", args.device)
        loss = one_step_loss(noise_path(), teacher, steps=4)
        train_denoiser(
            student,
            examples,
            out,
            args.turbo_steps,
            loss,
            rate=1e-3,
            drop=0,
            averaging=0.99,
            device=args.device,
        )
        (out / ".done").touch()


def _patterns(args: argparse.Namespace) -> None:
    """A low-rank adapter of the denoiser for patterned scenes."""
    from catimage_tiny.denoiser import save_lora, train_denoiser, with_lora

    out = args.build / "patterns"
    if not _done(out):
        examples = _examples(
            training_scenes(args.build, ("patterned",), "patterned", pairs=10_000),
            args,
            "patterned",
        )
        net = with_lora(_trained(args.build / "unet", args.device), rank=16)
        train_denoiser(
            net, examples, out, args.patterns_steps, batch=32, save=save_lora, device=args.device
        )
        (out / ".done").touch()


def _next_scale(scenes: Scenes, args: argparse.Namespace) -> None:
    """The member that is not a diffusion model: its tokenizer, then the transformer over the
    tokenizer's bits.
    """
    from catimage.pool.generators.next_scale.model import NextScaleModel
    from catimage_tiny import next_scale
    from catimage_tiny.denoiser import Examples

    out, words = args.build / "next_scale", _examples(scenes, args)
    if not (out / ".tokenized").exists():
        next_scale.train_tokenizer(
            next_scale.Tokenizer(), scenes.images, out, args.tokenizer_steps, device=args.device
        )
        (out / ".tokenized").touch()
    if not _done(out):
        features = next_scale.encode_features(
            next_scale.trained_tokenizer(out).to(args.device), scenes.images, args.device
        )
        examples = Examples(features, words.words, words.nothing)
        model = NextScaleModel(next_scale.SHAPE).transformer
        next_scale.train_transformer(
            model, examples, out, args.transformer_steps, device=args.device
        )
        (out / ".done").touch()
    next_scale.assemble_next_scale(out, args.out / "next_scale")


def _trained(folder: Path, device: str) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder).to(device)


if __name__ == "__main__":
    main()

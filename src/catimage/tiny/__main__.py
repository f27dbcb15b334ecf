"""``make weights``: trains the tiny pool from scratch and copies it into the package. Finished parts are not made again."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from catimage.tiny.data import Scenes, training_scenes

PACKAGE = Path(__file__).parents[1] / "pools" / "tiny"


def main() -> None:
    """Parses the command line and trains what is not in the build folder yet."""
    parser = argparse.ArgumentParser(prog="python -m catimage.tiny", description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build/tiny"), help="where training writes (git ignores it)")
    parser.add_argument("--out", type=Path, default=PACKAGE, help="where the finished pool goes")
    parser.add_argument("--device", default="cpu")
    for part, steps in (("clip", 500), ("autoencoder", 3600), ("decoder", 3000), ("denoiser", 6000)):
        parser.add_argument(f"--{part}-steps", type=int, default=steps)
    args = parser.parse_args()
    scenes = training_scenes(args.build)
    _clip(scenes, args)
    _autoencoder(scenes, args)
    _denoiser(scenes, args)
    _decoder(scenes, args)
    from catimage.tiny.pipeline import assemble

    assemble(args.build, args.out)


def _done(folder: Path) -> bool:
    return (folder / ".done").exists()


def _clip(scenes: Scenes, args: argparse.Namespace) -> None:
    from catimage.tiny.clip import train_clip

    out = args.build / "clip"
    if not _done(out):
        train_clip(np.asarray(scenes.images), scenes.captions, out, args.clip_steps, device=args.device)
        (out / ".done").touch()


def _autoencoder(scenes: Scenes, args: argparse.Namespace) -> None:
    from catimage.tiny.autoencoder import new_autoencoder, train_autoencoder

    out = args.build / "encoder"
    if not _done(out):
        train_autoencoder(new_autoencoder(), scenes.images, out, args.autoencoder_steps, device=args.device)
        (out / ".done").touch()


def _decoder(scenes: Scenes, args: argparse.Namespace) -> None:
    """The decoder goes on alone: the latents that the denoiser learned stay as they are."""
    from diffusers import AutoencoderKL

    from catimage.tiny.autoencoder import train_autoencoder

    out = args.build / "vae"
    if not _done(out):
        vae = AutoencoderKL.from_pretrained(args.build / "encoder")
        train_autoencoder(vae, scenes.images, out, args.decoder_steps, rate=1.5e-3, decoder_only=True, device=args.device)
        (out / ".done").touch()


def _denoiser(scenes: Scenes, args: argparse.Namespace) -> None:
    from diffusers import AutoencoderKL

    from catimage.tiny.denoiser import encode_captions, encode_latents, new_denoiser, text_encoder_from, train_denoiser

    out = args.build / "unet"
    if not _done(out):
        text_encoder, tokenizer = text_encoder_from(args.build / "clip")
        words = encode_captions(text_encoder.to(args.device), tokenizer, scenes.captions, args.device)
        nothing = encode_captions(text_encoder, tokenizer, [""], args.device)[0]
        vae = AutoencoderKL.from_pretrained(args.build / "encoder").to(args.device)
        vae.eval()
        latents = encode_latents(vae, scenes.images, args.device)
        train_denoiser(new_denoiser(), latents, words, nothing, out, args.denoiser_steps, device=args.device)
        (out / ".done").touch()


if __name__ == "__main__":
    main()

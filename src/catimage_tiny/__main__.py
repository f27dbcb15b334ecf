"""Train the weights of the embedded pool from scratch and copy them into the package.

The models are trained one after another. A model that is already in the build folder is not trained
again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch

import catimage
from catimage_tiny.assemble import assemble
from catimage_tiny.build import Build
from catimage_tiny.parts import TRAINERS
from catimage_tiny.recipe import Recipe

PACKAGED_WEIGHTS = Path(catimage.__file__).parent / "pools" / "tiny"
"""The folder of the weights in the package."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, train all parts, and write the weights of the pool."""
    args = _parser().parse_args(arguments)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    recipe = Recipe().scaled(args.scale, args.max_batch_size)
    build = Build(args.build, recipe, device, args.workers)
    for part, train_part in TRAINERS.items():
        build.train(part, train_part)
    assemble(build, args.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m catimage_tiny", description=__doc__)
    add = parser.add_argument
    add(
        "--build",
        type=Path,
        default=Path("build/tiny"),
        help="folder for training data and trained models",
    )
    add("--out", type=Path, default=PACKAGED_WEIGHTS, help="folder for the weights of the pool")
    add("--device", help="cpu or cuda; the default is cuda if it is available")
    add("--scale", type=float, default=1.0, help="factor for the numbers of updates and scenes")
    add("--max-batch-size", type=int, help="upper limit of the batch sizes, at least 2")
    add(
        "--workers", type=int, default=os.cpu_count(), help="number of processes that render scenes"
    )
    return parser


if __name__ == "__main__":
    main()

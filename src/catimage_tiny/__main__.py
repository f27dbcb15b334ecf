"""Train the embedded pool from scratch (``make weights``) and copy it into the package.

Parts that the build folder has already are not trained again.
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

PACKAGED = Path(catimage.__file__).parent / "pools" / "tiny"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, train every part, and write the pool's weights."""
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
    add("--build", type=Path, default=Path("build/tiny"), help="folder for data and parts")
    add("--out", type=Path, default=PACKAGED, help="folder for the pool's weights")
    add("--device", help="cpu or cuda; by default cuda where there is one")
    add("--scale", type=float, default=1.0, help="factor for numbers of updates and scenes")
    add("--max-batch-size", type=int, help="upper limit of the batch sizes, at least 2")
    add("--workers", type=int, default=os.cpu_count(), help="processes that render scenes")
    return parser


if __name__ == "__main__":
    main()

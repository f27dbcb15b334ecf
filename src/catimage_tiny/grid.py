"""A picture of many images: a row a prompt, a column a candidate."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from catimage.scenes.grammar import KINDS

_HEAD = 112
"""Pixels for the names of the candidates, which stand upright."""


def grid(
    kinds: np.ndarray, images: np.ndarray, rendered: np.ndarray, names: list[str], each: int = 5
) -> np.ndarray:
    """The first ``each`` prompts of every kind: uint8 (height, width, 3), candidates in the order
    of ``names``, rendered scenes last.

    Args:
        kinds: (n_prompts,), the kind of each prompt.
        images: uint8 (n_candidates, n_prompts, h, w, 3).
        rendered: uint8 (n_prompts, h, w, 3).
        names: n_candidates names.
    """
    rows = [i for kind in KINDS for i in np.flatnonzero(kinds == kind)[:each]]
    lines = [np.concatenate([*images[:, i], rendered[i]], axis=1) for i in rows]
    head = np.concatenate(
        [_upright(name, images.shape[3]) for name in [*names, "rendered"]], axis=1
    )
    return np.concatenate([head, *lines], axis=0)


def _upright(name: str, width: int) -> np.ndarray:
    """A name written upwards in black on white: uint8 (head, width, 3)."""
    canvas = Image.new("RGB", (_HEAD, width), "white")
    ImageDraw.Draw(canvas).text(
        (2, width / 2), name.removeprefix("tiny-"), "black", ImageFont.load_default(14), anchor="lm"
    )
    return np.asarray(canvas.rotate(90, expand=True))

"""The training set of the tiny pool: rendered scenes, each beside a neighbour that differs in one
attribute.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from catimage.scenes.grammar import KINDS, draw_scene, neighbour
from catimage.scenes.render import SIZE, render


@dataclass(frozen=True)
class Scenes:
    """``images`` uint8 (n, 64, 64, 3); row 2k + 1 is a :func:`~catimage.scenes.grammar.neighbour`
    of row 2k.
    """

    images: np.ndarray
    captions: list[str]
    kinds: list[str]


def make_scenes(pairs: int, seed: int, kinds: tuple[str, ...] = KINDS) -> Scenes:
    """Draws and renders ``2 * pairs`` scenes of the given kinds."""
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(pairs):
        scene = draw_scene(rng, *kinds)
        scenes += [scene, neighbour(scene, rng)]
    images = np.stack([render(s, rng) for s in scenes])
    return Scenes(images, [s.caption() for s in scenes], [s.kind for s in scenes])


def training_scenes(
    folder: Path,
    kinds: tuple[str, ...] = KINDS,
    name: str = "scenes",
    pairs: int = 30_000,
    workers: int = 2,
    parts: int = 20,
) -> Scenes:
    """A training set of some kinds of scene, rendered on the first call and read from ``folder`` on
    the next, under its ``name``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels, words = folder / f"{name}.npy", folder / f"{name}.json"
    if not words.exists():
        with ProcessPoolExecutor(workers) as pool:
            made = list(
                pool.map(
                    partial(make_scenes, pairs // parts, kinds=kinds), range(1000, 1000 + parts)
                )
            )
        np.save(pixels, np.concatenate([m.images for m in made]))
        texts = {
            "captions": [c for m in made for c in m.captions],
            "kinds": [k for m in made for k in m.kinds],
        }
        words.write_text(json.dumps(texts))
    texts = json.loads(words.read_text())
    images = np.load(pixels, mmap_mode="r")
    assert images.shape[1:] == (SIZE, SIZE, 3)
    return Scenes(images, texts["captions"], texts["kinds"])

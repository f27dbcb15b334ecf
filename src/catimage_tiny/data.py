"""Rendered scenes for training the embedded pool, and held-out scenes for its evaluation."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from catimage.scenes.grammar import SCENE_KINDS, neighbour, sample_scene
from catimage.scenes.render import render
from catimage_tiny.recipe import CHUNKS, SceneSet


@dataclass(frozen=True)
class Scenes:
    """Images and captions of scenes.

    Attributes:
        images: uint8 (n, 64, 64, 3). Rows 2k and 2k + 1 are a pair: a scene, and a similar scene
            (:func:`~catimage.scenes.grammar.neighbour`).
        captions: The n captions of the images.
    """

    images: NDArray[np.uint8]
    captions: list[str]


def render_scenes(seed: int, pairs: int, scene_kinds: tuple[str, ...] = SCENE_KINDS) -> Scenes:
    """Draw and render pairs of a scene and a similar scene.

    Args:
        seed: Seed of the scenes and images.
        pairs: Number of pairs.
        scene_kinds: Kinds of scene, which are equally likely.
    """
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(pairs):
        scene = sample_scene(rng, *scene_kinds)
        scenes += [scene, neighbour(scene, rng)]
    images = np.stack([render(scene, rng) for scene in scenes])
    return Scenes(images, [scene.caption() for scene in scenes])


def training_scenes(folder: Path, scene_set: SceneSet, workers: int = 1) -> Scenes:
    """Return a set of training scenes: read it from ``folder``, or render and write it.

    Args:
        folder: The build folder.
        scene_set: The kinds, number and seeds of the scenes.
        workers: Number of processes that render scenes.
    """
    images, captions = folder / f"{scene_set.name}.npy", folder / f"{scene_set.name}.json"
    if not captions.exists():
        folder.mkdir(parents=True, exist_ok=True)
        chunks = _render_chunks(scene_set, workers)
        np.save(images, np.concatenate([chunk.images for chunk in chunks]))
        captions.write_text(json.dumps([text for chunk in chunks for text in chunk.captions]))
    return Scenes(np.load(images, mmap_mode="c"), json.loads(captions.read_text()))


def _render_chunks(scene_set: SceneSet, workers: int) -> list[Scenes]:
    render_chunk = partial(
        render_scenes, pairs=scene_set.pairs_per_chunk, scene_kinds=scene_set.scene_kinds
    )
    seeds = range(scene_set.first_seed, scene_set.first_seed + CHUNKS)
    if workers == 1:
        return [render_chunk(seed) for seed in seeds]
    with ProcessPoolExecutor(workers) as executor:
        return list(executor.map(render_chunk, seeds))


def normalize_pixels(images: torch.Tensor) -> torch.Tensor:
    """Convert images uint8 (n, h, w, 3) to float32 (n, 3, h, w) in [-1, 1], on the same device."""
    pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class HeldOutScenes:
    """Scenes that are not used in training.

    Attributes:
        scene_kinds: The kind of each scene, str (n,).
        captions: The n captions, all different.
        images: The rendered images, uint8 (n, 64, 64, 3).
    """

    scene_kinds: NDArray[np.str_]
    captions: list[str]
    images: NDArray[np.uint8]


def held_out_scenes(per_kind: int, seed: int) -> HeldOutScenes:
    """Draw and render scenes with different captions, equally many of each kind.

    Args:
        per_kind: Number of scenes of each kind.
        seed: Seed of the scenes and images; it must not be a seed of the training scenes (1000 to
            1231).
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, tuple[str, NDArray[np.uint8]]] = {}
    for kind in SCENE_KINDS:
        first = len(rows)
        while len(rows) < first + per_kind:
            scene = sample_scene(rng, kind)
            rows.setdefault(scene.caption(), (kind, render(scene, rng)))
    scene_kinds, images = zip(*rows.values(), strict=True)
    return HeldOutScenes(np.array(scene_kinds), list(rows), np.stack(images))

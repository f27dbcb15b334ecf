"""Real images for the metrics of sets: the images in a folder, or rendered scenes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from catimage.common.pixels import rgb_pixels
from catimage.errors import InputError
from catimage.scenes.grammar import Scene
from catimage.scenes.parse import parse
from catimage.scenes.render import render

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


def scenes_of(prompts: list[str]) -> list[Scene] | str:
    """Return the scenes that prompts describe, or the first prompt that describes no scene."""
    scenes = []
    for prompt in prompts:
        scene = parse(prompt)
        if scene is None:
            return prompt
        scenes.append(scene)
    return scenes


def render_scenes(scenes: list[Scene], per_scene: int, seed: int) -> Iterator[np.ndarray]:
    """Yield ``per_scene`` images of the first scene, then of the next: uint8 (64, 64, 3) each."""
    for i, scene in enumerate(scenes):
        rng = np.random.default_rng([seed, i])
        for _ in range(per_scene):
            yield render(scene, rng)


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder and its subfolders, sorted.

    Raises:
        InputError: the folder has fewer than two images.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < 2:
        problem = "has fewer than two images" if folder.is_dir() else "is not found"
        raise InputError(
            f"evaluate.reference_images: the folder {folder} {problem}. Set it to a folder of"
            f" real images ({', '.join(SUFFIXES)})."
        )
    return files


def read_images(files: list[Path]) -> Iterator[np.ndarray]:
    """Yield the images in files, uint8 (h, w, 3) each, as displayed on a white page.

    Raises:
        InputError: a file is not an image.
    """
    for path in files:
        try:
            with Image.open(path) as image:
                pixels = rgb_pixels(image)
        except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise InputError(
                f"evaluate.reference_images: {path}: not a readable image. Remove the file."
            ) from error
        yield pixels

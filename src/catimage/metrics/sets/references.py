"""Real images, which made ones are held against: a folder of the user's, or what the tiny pool's
prompts really look like.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from catimage.errors import InputError
from catimage.scenes.grammar import Scene
from catimage.scenes.parse import parse
from catimage.scenes.render import render

KINDS = (".jpeg", ".jpg", ".png", ".webp")


def scenes_of(prompts: list[str]) -> list[Scene] | str:
    """The scenes that prompts describe, or the first prompt that is no caption of the scene
    grammar.
    """
    scenes = []
    for prompt in prompts:
        scene = parse(prompt)
        if scene is None:
            return prompt
        scenes.append(scene)
    return scenes


def rendered(scenes: list[Scene], each: int, draw: int) -> Iterator[np.ndarray]:
    """``each`` images of every scene by the renderer, scene by scene: uint8 (64, 64, 3). Another
    ``draw`` gives others.
    """
    for i, scene in enumerate(scenes):
        rng = np.random.default_rng([draw, i])
        for _ in range(each):
            yield render(scene, rng)


def files_of(folder: Path) -> list[Path]:
    """The image files of a folder and its subfolders, sorted.

    Raises:
        InputError: there are fewer than two.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in KINDS)
    if len(files) < 2:
        what = "fewer than two images" if folder.is_dir() else "no such folder"
        raise InputError(
            f"evaluate.reference_images: {folder}: {what}; name a folder of real images"
            f" ({', '.join(KINDS)})."
        )
    return files


def opened(files: list[Path]) -> Iterator[np.ndarray]:
    """Images one by one: uint8 (h, w, 3), transparency dropped.

    Raises:
        InputError: a file is no image.
    """
    for path in files:
        try:
            with Image.open(path) as image:
                yield np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise InputError(
                f"evaluate.reference_images: {path} is no readable image ({error}); take it out."
            ) from error

"""Renderer of scenes: images of 64x64 pixels, drawn at four times the size and averaged down."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from catimage.scenes.grammar import Background, Group, Scene
from catimage.scenes.vocabulary import COLOURS, MANY, PATTERNS, POSITIONS, RADIUS

SIZE = 64
"""Width and height of an image in pixels."""
_SCALE = 4
"""Width of the canvas that a scene is drawn on, as a multiple of the width of the image."""
_CANVAS_SIZE = SIZE * _SCALE
_N_STARS = 20
_TRIES = 40
"""Number of random positions that are tried for an object."""
Point = tuple[float, float]
"""Horizontal and vertical position on the canvas, in pixels."""
Disc = tuple[float, float, float]
"""Horizontal and vertical position of the centre, and radius, in pixels of the canvas."""
Pixels = NDArray[np.uint8]
Shares = NDArray[np.floating]
"""A number from 0 to 1 for each pixel of the canvas."""


def render(scene: Scene, rng: np.random.Generator) -> Pixels:
    """Draw one of the images that match the caption of a scene: uint8 (64, 64, 3).

    Args:
        scene: The scene to draw.
        rng: The source of everything that the caption does not determine: positions, the phases of
            textures, the exact sizes (within 8 per cent), the number of objects if the caption says
            "many", the positions of stars, and the order in which objects hide each other.
    """
    canvas = Image.fromarray(_draw_background(scene.background, rng))
    objects = [g for g in scene.groups for _ in range(_draw_count(g, rng))]
    centres = _place_objects(objects, scene.overlap, rng)
    for i in rng.permutation(len(objects)):
        _draw_object(canvas, objects[i], centres[i], rng)
    return np.asarray(canvas.reduce(_SCALE))


def render_background(background: Background) -> Pixels:
    """Draw a background without objects and stars: uint8 (64, 64, 3)."""
    plain = Background("plain", background.colour) if background.kind == "starry" else background
    pixels = _draw_background(plain, np.random.default_rng(0))
    return np.asarray(Image.fromarray(pixels).reduce(_SCALE))


@cache
def silhouette(shape: str, radius: float) -> NDArray[np.bool_]:
    """Return a mask of an object in the centre of a square: bool (side, side).

    Args:
        shape: One of :data:`~catimage.scenes.vocabulary.SHAPES`.
        radius: Radius of the object in pixels.
    """
    half = (math.ceil(1.3 * radius) + 1) * _SCALE
    return np.asarray(_draw_mask(shape, radius * _SCALE, half).reduce(_SCALE)) > 127


def texture_colour(colour: str) -> str:
    """Return the second colour of a textured object: black on light colours, otherwise white."""
    return "white" if sum(COLOURS[colour]) < 560 else "black"


def _draw_count(group: Group, rng: np.random.Generator) -> int:
    return int(rng.integers(MANY, MANY + 4)) if group.count >= MANY else group.count


def _draw_background(background: Background, rng: np.random.Generator) -> Pixels:
    """Draw a background at the size of the canvas: uint8 (256, 256, 3)."""
    y, x = np.mgrid[0:_CANVAS_SIZE, 0:_CANVAS_SIZE].astype(np.float32) / _CANVAS_SIZE
    colours = (background.colour, background.second_colour)
    first, second = (np.array(COLOURS.get(c, (0, 0, 0)), np.float32) for c in colours)
    image = first + _second_colour_share(background, x, y)[..., None] * (second - first)
    canvas = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    if background.kind == "starry":
        _draw_stars(canvas, background, rng)
    return np.asarray(canvas)


def _second_colour_share(background: Background, x: Shares, y: Shares) -> Shares:
    """Return the share of the second colour at each pixel; ``x`` and ``y`` are from 0 to 1."""
    kind, variant = background.kind, background.variant
    if kind == "fading":
        return y if variant == "downwards" else x
    if kind == "half":
        return (x >= 0.5) * 1.0 if variant == "side by side" else (y >= 0.5) * 1.0
    if kind == "banded":
        edge = {"at the top": y, "at the bottom": 1 - y, "on the left": x, "on the right": 1 - x}
        across = variant == "across the middle"
        return (abs(y - 0.5) < 0.16) * 1.0 if across else (edge[variant] < 0.3) * 1.0
    if kind == "striped":
        return (((x if variant == "upright" else y) * 4) % 1 >= 0.5) * 1.0
    if kind == "checkered":
        n = 4 if variant == "large" else 8
        return np.asarray((np.floor(x * n) + np.floor(y * n)) % 2)
    return _pattern_share(kind, variant, x, y) if kind in PATTERNS else np.zeros_like(x)


def _pattern_share(kind: str, variant: str, x: Shares, y: Shares) -> Shares:
    """Return the share of the second colour at each pixel of a patterned background."""
    if kind == "zigzag":
        along, across = (y, x) if variant == "upright" else (x, y)
        return np.asarray((across * 4 + 0.6 * abs(along * 6 % 2 - 1)) % 1 >= 0.5, float)
    if kind == "diamonds":
        n = 3 if variant == "large" else 6
        return np.asarray((np.floor((x + y) * n) + np.floor((x - y) * n)) % 2)
    if kind == "hoops":
        n = 5 if variant == "wide" else 9
        return np.asarray(np.hypot(x - 0.5, y - 0.5) * n % 1 >= 0.5, float)
    if kind == "bricks":
        n = 5 if variant == "large" else 9
        shifted = x * n / 2 + np.floor(y * n) % 2 / 2
        return np.asarray((y * n % 1 < 0.22) | (shifted % 1 < 0.11), float)
    return np.asarray((x + y if variant == "rising" else x - y) * 3 % 1 >= 0.5, float)


def _draw_stars(canvas: Image.Image, background: Background, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(canvas)
    colour = (255, 255, 235) if sum(COLOURS[background.colour]) < 400 else (40, 40, 70)
    r = 1.3 * _SCALE
    for x, y in rng.random((_N_STARS, 2)) * _CANVAS_SIZE:
        draw.rectangle((x - r, y - r, x + r, y + r), fill=colour)


def _place_objects(objects: list[Group], overlap: bool, rng: np.random.Generator) -> list[Point]:
    """Return the centres of objects.

    Positions that the caption does not determine are random. Unless the objects may overlap, these
    positions keep a distance from the objects before them.
    """
    placed: list[Disc] = []
    for g in objects:
        r = RADIUS[g.size] * _SCALE
        if g.position:
            x, y = POSITIONS[g.position]
            dx, dy = rng.uniform(-1.5, 1.5, 2) * _SCALE
            placed.append((x * _CANVAS_SIZE + dx, y * _CANVAS_SIZE + dy, r))
        else:
            placed.append(_free_disc(r, placed, 0.55 if overlap else 1.15, rng))
    return [(x, y) for x, y, _ in placed]


def _free_disc(r: float, placed: list[Disc], distance: float, rng: np.random.Generator) -> Disc:
    """Place an object at the first random position that keeps a distance from other objects.

    If there is no such position, the object has the position with the least overlap.

    Args:
        r: Radius of the object in pixels of the canvas.
        placed: The other objects.
        distance: Smallest distance of two centres, as a multiple of the sum of the radii.
        rng: The source of the positions.
    """
    tries = rng.uniform(r * 1.05, _CANVAS_SIZE - r * 1.05, (_TRIES, 2))
    if not placed:
        return float(tries[0, 0]), float(tries[0, 1]), r
    others = np.array(placed)
    distances = np.hypot(tries[:, None, 0] - others[:, 0], tries[:, None, 1] - others[:, 1])
    gap = (distances - distance * (r + others[:, 2])).min(axis=1)
    best = int(np.argmax(gap >= 0)) if (gap >= 0).any() else int(np.argmax(gap))
    return float(tries[best, 0]), float(tries[best, 1]), r


def _polygon(n: int, centre: Point, radius: float, inner: float = 1.0) -> list[Point]:
    """Return the corners of a regular polygon or star.

    Args:
        n: Number of corners of the polygon, or points of the star.
        centre: Position of the centre.
        radius: Distance of the corners from the centre.
        inner: Below 1 for a star: the distance of its inner corners, as a share of ``radius``.
    """
    k = n if inner == 1.0 else 2 * n
    radii = [radius if i % 2 == 0 else radius * inner for i in range(k)]
    return [
        (
            centre[0] + radii[i] * math.sin(2 * math.pi * i / k),
            centre[1] - radii[i] * math.cos(2 * math.pi * i / k),
        )
        for i in range(k)
    ]


def _draw_mask(shape: str, r: float, half: int) -> Image.Image:
    """Return an 8-bit mask of a shape of radius ``r`` in a square of ``2 * half`` pixels."""
    mask = Image.new("L", (2 * half, 2 * half))
    draw = ImageDraw.Draw(mask)
    x = y = float(half)
    if shape == "square":
        draw.rectangle((x - 0.85 * r, y - 0.85 * r, x + 0.85 * r, y + 0.85 * r), fill=255)
    elif shape == "triangle":
        draw.polygon(_polygon(3, (x, y + 0.2 * r), 1.15 * r), fill=255)
    elif shape == "star":
        draw.polygon(_polygon(5, (x, y), 1.15 * r, inner=0.45), fill=255)
    elif shape == "cross":
        draw.rectangle((x - r, y - 0.32 * r, x + r, y + 0.32 * r), fill=255)
        draw.rectangle((x - 0.32 * r, y - r, x + 0.32 * r, y + r), fill=255)
    else:
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        if shape == "ring":
            draw.ellipse((x - 0.5 * r, y - 0.5 * r, x + 0.5 * r, y + 0.5 * r), fill=0)
        elif shape == "moon":
            draw.ellipse((x - 0.35 * r, y - 1.0 * r, x + 1.45 * r, y + 0.8 * r), fill=0)
    return mask


def _draw_texture(group: Group, half: int, rng: np.random.Generator) -> Image.Image:
    """Return a square of ``2 * half`` pixels in a group's texture, with a random phase."""
    first, second = COLOURS[group.colour], COLOURS[texture_colour(group.colour)]
    y, x = np.mgrid[0 : 2 * half, 0 : 2 * half] + rng.uniform(0, 64, (2, 1, 1))
    period = 6.0 * _SCALE
    if group.texture == "striped":
        mask = (x + y) % period < period / 2
    elif group.texture == "spotted":
        mask = np.hypot(x % period - period / 2, y % period - period / 2) < 0.3 * period
    else:
        mask = (np.floor(x / (period * 0.6)) + np.floor(y / (period * 0.6))) % 2 == 0
    pixels = np.where(mask[..., None], np.array(second, np.uint8), np.array(first, np.uint8))
    return Image.fromarray(pixels)


def _draw_object(
    canvas: Image.Image, group: Group, centre: Point, rng: np.random.Generator
) -> None:
    r = RADIUS[group.size] * _SCALE * rng.uniform(0.92, 1.08)
    half = math.ceil(1.2 * r + 2 * _SCALE)
    corner = (round(centre[0]) - half, round(centre[1]) - half)
    if group.texture:
        fill = _draw_texture(group, half, rng)
    else:
        fill = Image.new("RGB", (2 * half, 2 * half), COLOURS[group.colour])
    canvas.paste(fill, corner, _draw_mask(group.shape, r, half))

"""Draws a scene of the grammar: 64 x 64 pixels, four times supersampled."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from catimage.scenes.grammar import (
    COLOURS,
    MANY,
    PATTERNS,
    POSITIONS,
    RADIUS,
    Background,
    Group,
    Scene,
)

SIZE = 64
_UP = 4
_N = SIZE * _UP
Point = tuple[float, float]


def render(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """One image of ``scene``: uint8 of shape (64, 64, 3). What the caption leaves open is drawn
    from ``rng``.
    """
    canvas = Image.fromarray(_ground(scene.background, rng))
    items = [g for g in scene.groups for _ in range(_count(g, rng))]
    places = _places(items, scene.overlap, rng)
    for i in rng.permutation(len(items)):
        _draw(canvas, items[i], places[i], rng)
    return np.asarray(canvas.reduce(_UP))


def ground(background: Background) -> np.ndarray:
    """The background by itself, stars left out: uint8 (64, 64, 3)."""
    plain = Background("plain", background.colour) if background.kind == "starry" else background
    return np.asarray(Image.fromarray(_ground(plain, np.random.default_rng(0))).reduce(_UP))


@cache
def silhouette(shape: str, radius: float) -> np.ndarray:
    """Where an object of that shape and radius in pixels is, in the middle of a square: bool (side,
    side).
    """
    half = (math.ceil(1.3 * radius) + 1) * _UP
    return np.asarray(_mask(shape, radius * _UP, half).reduce(_UP)) > 127


def partner(colour: str) -> str:
    """The second colour of a textured object."""
    return "white" if sum(COLOURS[colour]) < 560 else "black"


def _count(group: Group, rng: np.random.Generator) -> int:
    return int(rng.integers(MANY, MANY + 4)) if group.count >= MANY else group.count


def _ground(ground: Background, rng: np.random.Generator) -> np.ndarray:
    """The background: uint8 (256, 256, 3)."""
    y, x = np.mgrid[0:_N, 0:_N].astype(np.float32) / _N
    a, b = (np.array(COLOURS.get(c, (0, 0, 0)), np.float32) for c in (ground.colour, ground.other))
    image = a + _share(ground, x, y)[..., None] * (b - a)
    canvas = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    if ground.kind == "starry":
        _sprinkle(canvas, ground, rng)
    return np.asarray(canvas)


def _share(ground: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The share of the second colour at each pixel."""
    kind, way = ground.kind, ground.way
    if kind == "fading":
        return y if way == "downwards" else x
    if kind == "half":
        return (x >= 0.5) * 1.0 if way == "side by side" else (y >= 0.5) * 1.0
    if kind == "banded":
        near = {"at the top": y, "at the bottom": 1 - y, "on the left": x, "on the right": 1 - x}
        return (
            (abs(y - 0.5) < 0.16) * 1.0 if way == "across the middle" else (near[way] < 0.3) * 1.0
        )
    if kind == "striped":
        return (((x if way == "upright" else y) * 4) % 1 >= 0.5) * 1.0
    if kind == "checkered":
        n = 4 if way == "large" else 8
        return np.asarray((np.floor(x * n) + np.floor(y * n)) % 2)
    return _pattern(kind, way, x, y) if kind in PATTERNS else np.zeros_like(x)


def _pattern(kind: str, way: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The share of the second colour in one of the :data:`PATTERNS`."""
    if kind == "zigzag":
        along, across = (y, x) if way == "upright" else (x, y)
        return np.asarray((across * 4 + 0.6 * abs(along * 6 % 2 - 1)) % 1 >= 0.5, float)
    if kind == "diamonds":
        n = 3 if way == "large" else 6
        return np.asarray((np.floor((x + y) * n) + np.floor((x - y) * n)) % 2)
    if kind == "hoops":
        return (np.hypot(x - 0.5, y - 0.5) * (5 if way == "wide" else 9) % 1 >= 0.5) * 1.0
    if kind == "bricks":
        n = 5 if way == "large" else 9
        shifted = x * n / 2 + np.floor(y * n) % 2 / 2
        return np.asarray((y * n % 1 < 0.22) | (shifted % 1 < 0.11), float)
    return np.asarray((x + y if way == "rising" else x - y) * 3 % 1 >= 0.5, float)


def _sprinkle(canvas: Image.Image, ground: Background, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(canvas)
    colour = (255, 255, 235) if sum(COLOURS[ground.colour]) < 400 else (40, 40, 70)
    r = 1.3 * _UP
    for x, y in rng.random((20, 2)) * _N:
        draw.rectangle((x - r, y - r, x + r, y + r), fill=colour)


def _places(items: list[Group], overlap: bool, rng: np.random.Generator) -> list[Point]:
    """Centres in supersampled pixels; apart from each other where the caption does not say
    "overlapping".
    """
    made: list[tuple[float, float, float]] = []
    for g in items:
        r = RADIUS[g.size] * _UP
        if g.position:
            fx, fy = POSITIONS[g.position]
            jx, jy = rng.uniform(-1.5, 1.5, 2) * _UP
            made.append((fx * _N + jx, fy * _N + jy, r))
            continue
        made.append(_free_place(r, made, 0.55 if overlap else 1.15, rng))
    return [(x, y) for x, y, _ in made]


def _free_place(
    r: float, made: list[tuple[float, float, float]], apart: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """The best of forty random places: the first that is clear, or the one that is least in the
    way.
    """
    tries = rng.uniform(r * 1.05, _N - r * 1.05, (40, 2))
    if not made:
        return float(tries[0, 0]), float(tries[0, 1]), r
    others = np.array(made)
    gap = np.hypot(tries[:, None, 0] - others[:, 0], tries[:, None, 1] - others[:, 1]) - apart * (
        r + others[:, 2]
    )
    clear = gap.min(axis=1)
    best = int(np.argmax(clear >= 0)) if (clear >= 0).any() else int(np.argmax(clear))
    return float(tries[best, 0]), float(tries[best, 1]), r


def _corners(n: int, centre: Point, radius: float, inner: float = 1.0) -> list[Point]:
    """Corners of a regular polygon, or of a star where ``inner`` is below 1."""
    k = n if inner == 1.0 else 2 * n
    radii = [radius if i % 2 == 0 else radius * inner for i in range(k)]
    return [
        (
            centre[0] + radii[i] * math.sin(2 * math.pi * i / k),
            centre[1] - radii[i] * math.cos(2 * math.pi * i / k),
        )
        for i in range(k)
    ]


def _mask(shape: str, r: float, half: int) -> Image.Image:
    """The silhouette of a shape of radius ``r`` in the middle of an 8-bit mask of ``2 * half``
    pixels a side.
    """
    mask = Image.new("L", (2 * half, 2 * half))
    draw = ImageDraw.Draw(mask)
    x = y = float(half)
    if shape == "square":
        draw.rectangle((x - 0.85 * r, y - 0.85 * r, x + 0.85 * r, y + 0.85 * r), fill=255)
    elif shape == "triangle":
        draw.polygon(_corners(3, (x, y + 0.2 * r), 1.15 * r), fill=255)
    elif shape == "star":
        draw.polygon(_corners(5, (x, y), 1.15 * r, inner=0.45), fill=255)
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


def _texture(group: Group, half: int, rng: np.random.Generator) -> Image.Image:
    """What shows through the mask of a textured object: two colours in a pattern of random phase."""
    a, b = COLOURS[group.colour], COLOURS[partner(group.colour)]
    y, x = np.mgrid[0 : 2 * half, 0 : 2 * half] + rng.uniform(0, 64, (2, 1, 1))
    period = 6.0 * _UP
    if group.texture == "striped":
        second = (x + y) % period < period / 2
    elif group.texture == "spotted":
        second = np.hypot(x % period - period / 2, y % period - period / 2) < 0.3 * period
    else:
        second = (np.floor(x / (period * 0.6)) + np.floor(y / (period * 0.6))) % 2 == 0
    return Image.fromarray(
        np.where(second[..., None], np.array(b, np.uint8), np.array(a, np.uint8))
    )


def _draw(canvas: Image.Image, group: Group, centre: Point, rng: np.random.Generator) -> None:
    r = RADIUS[group.size] * _UP * rng.uniform(0.92, 1.08)
    half = math.ceil(1.2 * r + 2 * _UP)
    corner = (round(centre[0]) - half, round(centre[1]) - half)
    fill = (
        _texture(group, half, rng)
        if group.texture
        else Image.new("RGB", (2 * half, 2 * half), COLOURS[group.colour])
    )
    canvas.paste(fill, corner, _mask(group.shape, r, half))

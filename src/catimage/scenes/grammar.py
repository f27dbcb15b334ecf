"""The scene grammar of the tiny pool: captions whose difficulty ranges from an empty wall to a
crowded picture.

A :class:`Scene` is what a caption says; :func:`catimage.scenes.render.render` draws one of the many
images that it allows. The less a caption fixes (free positions, random texture phase, many objects)
the more entropy is left to the generator, and the more denoising steps it needs: that spread is
what routing feeds on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 220, 50),
    "green": (40, 160, 60),
    "blue": (30, 70, 210),
    "purple": (130, 50, 170),
    "pink": (250, 150, 190),
    "black": (20, 20, 25),
    "grey": (140, 140, 145),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "moon")
TEXTURES = ("striped", "spotted", "checkered")
NUMBERS = ("", "a", "two", "three", "four", "five", "six")
RADIUS = {"small": 6.0, "": 9.0, "large": 13.0, "huge": 20.0}
POSITIONS: dict[str, tuple[float, float]] = {
    "in the centre": (0.5, 0.5),
    "at the top": (0.5, 0.24),
    "at the bottom": (0.5, 0.76),
    "on the left": (0.24, 0.5),
    "on the right": (0.76, 0.5),
    "in the top left corner": (0.24, 0.24),
    "in the top right corner": (0.76, 0.24),
    "in the bottom left corner": (0.24, 0.76),
    "in the bottom right corner": (0.76, 0.76),
}
MANY = 7
"""The count that stands for "many": that many objects or up to three more."""


@dataclass(frozen=True)
class Background:
    """``kind`` is plain, fading, half, banded, striped, checkered, starry or one of
    :data:`PATTERNS`; colours as named.
    """

    kind: str
    colour: str
    other: str = ""
    way: str = ""

    def caption(self, noun: str) -> str:
        """The background in words, around ``noun`` ("wall" for an empty scene, "background" behind
        objects).
        """
        c, o = self.colour, self.other
        return {
            "plain": f"a plain {c} {noun}",
            "fading": f"a {noun} fading from {c} to {o} {self.way}",
            "half": f"a {noun} half {c} and half {o} {self.way}",
            "banded": f"a {c} {noun} with a wide {o} band {self.way}",
            "striped": f"a {noun} of {self.way} {c} and {o} stripes",
            "checkered": f"a {noun} of {self.way} {c} and {o} checks",
            "starry": f"a starry {c} {noun}",
            "zigzag": f"a {noun} of {self.way} {c} and {o} zigzags",
            "diamonds": f"a {noun} of {self.way} {c} and {o} diamonds",
            "hoops": f"a {noun} of {self.way} {c} and {o} hoops",
            "bricks": f"a {noun} of {self.way} {c} bricks and {o} mortar",
            "slanted": f"a {noun} of {self.way} {c} and {o} stripes",
        }[self.kind]


WAYS: dict[str, tuple[str, ...]] = {
    "fading": ("downwards", "to the right"),
    "half": ("side by side", "one above the other"),
    "banded": ("at the top", "at the bottom", "on the left", "on the right", "across the middle"),
    "striped": ("upright", "level"),
    "checkered": ("large", "small"),
    "zigzag": ("upright", "level"),
    "diamonds": ("large", "small"),
    "hoops": ("wide", "narrow"),
    "bricks": ("large", "small"),
    "slanted": ("rising", "falling"),
}
PATTERNS = ("zigzag", "diamonds", "hoops", "bricks", "slanted")
"""Backgrounds of the patterned scenes alone."""


@dataclass(frozen=True)
class Group:
    """``count`` objects alike; :data:`MANY` stands for many. ``position`` is empty where the
    caption leaves it free.
    """

    count: int
    size: str
    texture: str
    colour: str
    shape: str
    position: str = ""

    def caption(self) -> str:
        """The group in words, such as "three small red rings"."""
        number = "many" if self.count >= MANY else NUMBERS[self.count]
        plural = "" if self.count == 1 else ("es" if self.shape == "cross" else "s")
        words = [number, self.size, self.texture, self.colour, self.shape + plural, self.position]
        text = " ".join(w for w in words if w)
        return "an " + text[2:] if text.startswith("a ") and text[2] in "aeiou" else text


@dataclass(frozen=True)
class Scene:
    """A background and the groups of objects on it; ``kind`` is simple, middling, crowded or
    patterned.
    """

    kind: str
    background: Background
    groups: tuple[Group, ...] = ()
    overlap: bool = False

    def caption(self) -> str:
        """The prompt for this scene."""
        if not self.groups:
            return self.background.caption("wall").replace("a plain", "an empty")
        parts = [g.caption() for g in self.groups]
        listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
        return (
            f"{listed}{' overlapping' if self.overlap else ''} on"
            f" {self.background.caption('background')}"
        )


def _pick(rng: np.random.Generator, items: tuple[str, ...], but: tuple[str, ...] = ()) -> str:
    return str(rng.choice([i for i in items if i not in but]))


_NAMES = tuple(COLOURS)
_SIMPLE_GROUNDS = ("plain", "fading", "half", "banded", "striped", "checkered")


def _background(
    rng: np.random.Generator, kinds: tuple[str, ...], weights: tuple[float, ...] | None = None
) -> Background:
    kind = str(rng.choice(kinds, p=weights))
    colour = _pick(rng, _NAMES)
    way = _pick(rng, WAYS[kind]) if kind in WAYS else ""
    return Background(kind, colour, _pick(rng, _NAMES, (colour,)) if way else "", way)


def _group(
    rng: np.random.Generator,
    count: int,
    sizes: tuple[str, ...],
    taken: tuple[str, ...],
    plain: float,
) -> Group:
    size = _pick(rng, sizes)
    texture = "" if size == "small" or rng.random() < plain else _pick(rng, TEXTURES)
    return Group(count, size, texture, _pick(rng, _NAMES, taken), _pick(rng, SHAPES))


def _simple(rng: np.random.Generator) -> Scene:
    """An empty wall, or one object whose place is told."""
    if rng.random() < 0.5:
        return Scene(
            "simple", _background(rng, _SIMPLE_GROUNDS, (0.04, 0.24, 0.18, 0.24, 0.17, 0.13))
        )
    ground = _background(rng, ("plain", "fading"), (0.8, 0.2))
    one = _group(rng, 1, ("", "large", "huge"), (ground.colour, ground.other), plain=0.8)
    position = "in the centre" if one.size == "huge" else _pick(rng, tuple(POSITIONS))
    return Scene(
        "simple", ground, (Group(1, one.size, one.texture, one.colour, one.shape, position),)
    )


def _groups(
    rng: np.random.Generator,
    ground: Background,
    counts: list[int],
    sizes: tuple[str, ...],
    plain: float,
) -> tuple[Group, ...]:
    taken: tuple[str, ...] = (ground.colour, ground.other)
    made: list[Group] = []
    for count in counts:
        made.append(_group(rng, count, sizes, taken, plain))
        taken += (made[-1].colour,)
    return tuple(made)


def _middling(rng: np.random.Generator) -> Scene:
    """One or two small groups whose places are free."""
    ground = _background(
        rng, ("plain", "fading", "half", "striped", "starry"), (0.55, 0.15, 0.1, 0.1, 0.1)
    )
    counts = [int(rng.integers(1, 4)) for _ in range(int(rng.integers(1, 3)))]
    return Scene(
        "middling",
        ground,
        _groups(
            rng,
            ground,
            counts,
            ("small", "", "large") if sum(counts) < 4 else ("small", ""),
            plain=0.6,
        ),
    )


def _crowded(rng: np.random.Generator) -> Scene:
    """Several groups, textures, overlap, busy backgrounds."""
    ground = _background(
        rng,
        ("plain", "fading", "half", "striped", "checkered", "starry"),
        (0.35, 0.15, 0.1, 0.1, 0.1, 0.2),
    )
    overlap = bool(rng.random() < 0.4)
    if rng.random() < 0.35:
        counts = [MANY] + [int(rng.integers(1, 4)) for _ in range(int(rng.integers(0, 2)))]
    else:
        counts = [int(rng.integers(1, 5)) for _ in range(int(rng.integers(2, 4)))]
    return Scene(
        "crowded",
        ground,
        _groups(
            rng, ground, counts, ("small", "") if sum(counts) > 5 else ("small", "", "large"), 0.4
        ),
        overlap,
    )


def _patterned(rng: np.random.Generator) -> Scene:
    """A wall of a pattern, or an object on it."""
    ground = _background(rng, PATTERNS)
    if rng.random() < 0.6:
        return Scene("patterned", ground)
    one = _group(rng, 1, ("large", "huge"), (ground.colour, ground.other), plain=1.0)
    return Scene("patterned", ground, (replace(one, position="in the centre"),))


_MAKERS: dict[str, Callable[[np.random.Generator], Scene]] = {
    "simple": _simple,
    "middling": _middling,
    "crowded": _crowded,
    "patterned": _patterned,
}
KINDS = tuple(_MAKERS)


def draw_scene(rng: np.random.Generator, *kinds: str) -> Scene:
    """One scene, of a kind drawn at random from the given ones, or from all (each equally often)."""
    return _MAKERS[_pick(rng, kinds or KINDS)](rng)


def neighbour(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene that differs in one attribute: the hard negative that teaches a CLIP to read counts
    and bindings.
    """
    if not scene.groups:
        other = _background(rng, (scene.background.kind,))
        return Scene(scene.kind, other)
    groups = list(scene.groups)
    i = int(rng.integers(len(groups)))
    g = groups[i]
    what = str(rng.choice(["count", "colour", "shape", "texture", "swap"]))
    if what == "swap" and len(groups) > 1:
        j = (i + 1) % len(groups)
        h = groups[j]
        groups[i] = Group(g.count, g.size, g.texture, h.colour, g.shape, g.position)
        groups[j] = Group(h.count, h.size, h.texture, g.colour, h.shape, h.position)
    elif what == "count" and not g.position and g.count < MANY:
        groups[i] = Group(
            max(1, g.count + (1 if g.count == 1 or rng.random() < 0.5 else -1)),
            g.size,
            g.texture,
            g.colour,
            g.shape,
        )
    elif what == "texture" and g.size != "small":
        texture = _pick(rng, ("", *TEXTURES), (g.texture,))
        groups[i] = Group(g.count, g.size, texture, g.colour, g.shape, g.position)
    elif what == "colour":
        taken = (scene.background.colour, scene.background.other, *(x.colour for x in groups))
        groups[i] = Group(
            g.count, g.size, g.texture, _pick(rng, _NAMES, taken), g.shape, g.position
        )
    else:
        groups[i] = Group(
            g.count, g.size, g.texture, g.colour, _pick(rng, SHAPES, (g.shape,)), g.position
        )
    return Scene(scene.kind, scene.background, tuple(groups), scene.overlap)

"""The scene grammar of the embedded pool: random scenes and their captions.

A :class:`Scene` is the content of a caption; :func:`catimage.scenes.render.render` draws one of the
many images that match it. Captions range from an empty wall to a crowded picture. The less a
caption determines (positions, texture phase, many objects), the more a generator has to choose,
and the more denoising steps it needs. A router can learn these differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from catimage.scenes.vocabulary import (
    BACKGROUND_CAPTIONS,
    COLOURS,
    MANY,
    NUMBERS,
    PATTERNS,
    POSITIONS,
    SHAPES,
    TEXTURES,
    WAYS,
)


@dataclass(frozen=True)
class Background:
    """The background of a scene.

    Attributes:
        kind: A key of :data:`~catimage.scenes.vocabulary.BACKGROUND_CAPTIONS`.
        colour: Name of the first colour.
        other: Name of the second colour; empty where there is one colour.
        way: One of the kind's :data:`~catimage.scenes.vocabulary.WAYS`; empty if it has none.
    """

    kind: str
    colour: str
    other: str = ""
    way: str = ""

    def caption(self, noun: str) -> str:
        """Return the description of a ``noun``: "wall" in an empty scene, else "background"."""
        return BACKGROUND_CAPTIONS[self.kind].format(
            noun=noun, colour=self.colour, other=self.other, way=self.way
        )


@dataclass(frozen=True)
class Group:
    """Equal objects.

    Attributes:
        count: Number of objects; :data:`~catimage.scenes.vocabulary.MANY` stands for "many".
        size: A key of :data:`~catimage.scenes.vocabulary.RADIUS`.
        texture: One of the textures, or empty for a plain colour.
        colour: Name of the colour.
        shape: One of the shapes.
        position: A key of :data:`~catimage.scenes.vocabulary.POSITIONS`, or empty where the caption
            does not determine it.
    """

    count: int
    size: str
    texture: str
    colour: str
    shape: str
    position: str = ""

    def caption(self) -> str:
        """Return the description of the group, such as "three small red rings"."""
        number = "many" if self.count >= MANY else NUMBERS[self.count]
        plural = "" if self.count == 1 else ("es" if self.shape == "cross" else "s")
        parts = [number, self.size, self.texture, self.colour, self.shape + plural, self.position]
        text = " ".join(part for part in parts if part)
        return "an " + text[2:] if text.startswith("a ") and text[2] in "aeiou" else text


@dataclass(frozen=True)
class Scene:
    """A background and groups of objects.

    Attributes:
        kind: One of :data:`SCENE_KINDS`; empty for a parsed caption.
        background: Behind the objects.
        groups: Groups of objects; empty for a wall.
        overlap: Whether the objects may overlap.
    """

    kind: str
    background: Background
    groups: tuple[Group, ...] = ()
    overlap: bool = False

    def caption(self) -> str:
        """Return the prompt for this scene."""
        if not self.groups:
            return self.background.caption("wall").replace("a plain", "an empty")
        parts = [g.caption() for g in self.groups]
        objects = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
        overlapping = " overlapping" if self.overlap else ""
        return f"{objects}{overlapping} on {self.background.caption('background')}"


def _pick(rng: np.random.Generator, items: tuple[str, ...], excluded: tuple[str, ...] = ()) -> str:
    return str(rng.choice([item for item in items if item not in excluded]))


_COLOUR_NAMES = tuple(COLOURS)
_SIMPLE_BACKGROUNDS = ("plain", "fading", "half", "banded", "striped", "checkered")


def _draw_background(
    rng: np.random.Generator,
    background_kinds: tuple[str, ...],
    weights: tuple[float, ...] | None = None,
) -> Background:
    kind = str(rng.choice(background_kinds, p=weights))
    colour = _pick(rng, _COLOUR_NAMES)
    way = _pick(rng, WAYS[kind]) if kind in WAYS else ""
    return Background(kind, colour, _pick(rng, _COLOUR_NAMES, (colour,)) if way else "", way)


def _draw_group(
    rng: np.random.Generator,
    count: int,
    sizes: tuple[str, ...],
    excluded: tuple[str, ...],
    plain: float,
) -> Group:
    """Draw a group whose colour is none of ``excluded``, with probability ``plain`` untextured."""
    size = _pick(rng, sizes)
    texture = "" if size == "small" or rng.random() < plain else _pick(rng, TEXTURES)
    return Group(count, size, texture, _pick(rng, _COLOUR_NAMES, excluded), _pick(rng, SHAPES))


def _draw_groups(
    rng: np.random.Generator,
    background: Background,
    counts: list[int],
    sizes: tuple[str, ...],
    plain: float,
) -> tuple[Group, ...]:
    """Draw one group per count, in colours that differ from each other and the background."""
    excluded: tuple[str, ...] = (background.colour, background.other)
    groups: list[Group] = []
    for count in counts:
        groups.append(_draw_group(rng, count, sizes, excluded, plain))
        excluded += (groups[-1].colour,)
    return tuple(groups)


def _simple(rng: np.random.Generator) -> Scene:
    """An empty wall, or one object at a given position."""
    if rng.random() < 0.5:
        weights = (0.04, 0.24, 0.18, 0.24, 0.17, 0.13)
        return Scene("simple", _draw_background(rng, _SIMPLE_BACKGROUNDS, weights))
    background = _draw_background(rng, ("plain", "fading"), (0.8, 0.2))
    one = _draw_groups(rng, background, [1], ("", "large", "huge"), plain=0.8)[0]
    position = "in the centre" if one.size == "huge" else _pick(rng, tuple(POSITIONS))
    return Scene("simple", background, (replace(one, position=position),))


def _middling(rng: np.random.Generator) -> Scene:
    """One or two small groups at free positions."""
    background_kinds = ("plain", "fading", "half", "striped", "starry")
    background = _draw_background(rng, background_kinds, (0.55, 0.15, 0.1, 0.1, 0.1))
    counts = [int(rng.integers(1, 4)) for _ in range(int(rng.integers(1, 3)))]
    sizes = ("small", "", "large") if sum(counts) < 4 else ("small", "")
    return Scene("middling", background, _draw_groups(rng, background, counts, sizes, plain=0.6))


def _crowded(rng: np.random.Generator) -> Scene:
    """Several groups, with textures, overlap and busy backgrounds."""
    background_kinds = ("plain", "fading", "half", "striped", "checkered", "starry")
    background = _draw_background(rng, background_kinds, (0.35, 0.15, 0.1, 0.1, 0.1, 0.2))
    overlap = bool(rng.random() < 0.4)
    if rng.random() < 0.35:
        counts = [MANY] + [int(rng.integers(1, 4)) for _ in range(int(rng.integers(0, 2)))]
    else:
        counts = [int(rng.integers(1, 5)) for _ in range(int(rng.integers(2, 4)))]
    sizes = ("small", "") if sum(counts) > 5 else ("small", "", "large")
    groups = _draw_groups(rng, background, counts, sizes, plain=0.4)
    return Scene("crowded", background, groups, overlap)


def _patterned(rng: np.random.Generator) -> Scene:
    """A patterned wall, or one object in front of it."""
    background = _draw_background(rng, PATTERNS)
    if rng.random() < 0.6:
        return Scene("patterned", background)
    one = _draw_groups(rng, background, [1], ("large", "huge"), plain=1.0)[0]
    return Scene("patterned", background, (replace(one, position="in the centre"),))


_DRAW: dict[str, Callable[[np.random.Generator], Scene]] = {
    "simple": _simple,
    "middling": _middling,
    "crowded": _crowded,
    "patterned": _patterned,
}
SCENE_KINDS = tuple(_DRAW)


def draw_scene(rng: np.random.Generator, *scene_kinds: str) -> Scene:
    """Draw a scene of one of the given kinds, or of all; each kind is equally likely."""
    return _DRAW[_pick(rng, scene_kinds or SCENE_KINDS)](rng)


def neighbour(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return a scene that differs in one attribute: a hard negative for CLIP's training."""
    if not scene.groups:
        return Scene(scene.kind, _draw_background(rng, (scene.background.kind,)))
    groups = list(scene.groups)
    i = int(rng.integers(len(groups)))
    attribute = str(rng.choice(["count", "colour", "shape", "texture", "swap"]))
    if attribute == "swap" and len(groups) > 1:
        j = (i + 1) % len(groups)
        swapped = replace(groups[i], colour=groups[j].colour)
        groups[i], groups[j] = swapped, replace(groups[j], colour=groups[i].colour)
    else:
        excluded = (scene.background.colour, scene.background.other, *(g.colour for g in groups))
        groups[i] = _change(rng, groups[i], attribute, excluded)
    return replace(scene, groups=tuple(groups))


def _change(
    rng: np.random.Generator, group: Group, attribute: str, excluded: tuple[str, ...]
) -> Group:
    """Change an attribute of a group, or its shape where that attribute is determined."""
    if attribute == "count" and not group.position and group.count < MANY:
        step = 1 if group.count == 1 or rng.random() < 0.5 else -1
        return replace(group, count=max(1, group.count + step))
    if attribute == "texture" and group.size != "small":
        return replace(group, texture=_pick(rng, ("", *TEXTURES), (group.texture,)))
    if attribute == "colour":
        return replace(group, colour=_pick(rng, _COLOUR_NAMES, excluded))
    return replace(group, shape=_pick(rng, SHAPES, (group.shape,)))

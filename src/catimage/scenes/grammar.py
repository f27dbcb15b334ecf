"""The scene grammar: random scenes of coloured shapes, and their captions.

The embedded pool (docs/tiny-pool.md) is trained on these scenes, and their captions are its
prompts. A :class:`Scene` is the content of a caption; :func:`catimage.scenes.render.render` renders
one of the many images that match it. Scenes range from an empty wall to many overlapping objects.
The more properties of the image a caption leaves open, such as the positions of many objects, the
more denoising steps a generator needs. A router can learn these differences from the captions.
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
    VARIANTS,
)


@dataclass(frozen=True)
class Background:
    """The background of a scene.

    Attributes:
        kind: A key of :data:`~catimage.scenes.vocabulary.BACKGROUND_CAPTIONS`.
        colour: Name of the first colour.
        second_colour: Name of the second colour; empty if the kind has one colour only.
        variant: One of :data:`~catimage.scenes.vocabulary.VARIANTS` of the kind, such as
            "to the right"; empty if the kind has one colour only.
    """

    kind: str
    colour: str
    second_colour: str = ""
    variant: str = ""

    def caption(self, noun: str) -> str:
        """Describe the background; ``noun`` is "wall" in a scene without objects."""
        return BACKGROUND_CAPTIONS[self.kind].format(noun=noun, **vars(self))


@dataclass(frozen=True)
class Group:
    """Objects of the same size, texture, colour and shape.

    Attributes:
        count: Number of objects; :data:`~catimage.scenes.vocabulary.MANY` stands for "many".
        size: A key of :data:`~catimage.scenes.vocabulary.RADIUS`.
        texture: One of :data:`~catimage.scenes.vocabulary.TEXTURES`; empty for a plain colour.
        colour: Name of the colour.
        shape: One of :data:`~catimage.scenes.vocabulary.SHAPES`.
        position: A key of :data:`~catimage.scenes.vocabulary.POSITIONS`; empty if the caption has
            no position.
    """

    count: int
    size: str
    texture: str
    colour: str
    shape: str
    position: str = ""

    def caption(self) -> str:
        """Describe the group, for example as "three small red rings"."""
        number = "many" if self.count >= MANY else NUMBERS[self.count]
        plural = "" if self.count == 1 else ("es" if self.shape == "cross" else "s")
        parts = [number, self.size, self.texture, self.colour, self.shape + plural, self.position]
        text = " ".join(part for part in parts if part)
        return "an " + text[2:] if text.startswith("a ") and text[2] in "aeiou" else text


@dataclass(frozen=True)
class Scene:
    """A background and groups of objects.

    Attributes:
        kind: One of :data:`SCENE_KINDS`; empty if the scene is parsed from a caption.
        background: The background of the objects.
        groups: The groups of objects; if there are none, the caption calls the background a wall.
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


def _sample_background(
    rng: np.random.Generator,
    background_kinds: tuple[str, ...],
    probabilities: tuple[float, ...] | None = None,
) -> Background:
    kind = str(rng.choice(background_kinds, p=probabilities))
    colour = _pick(rng, _COLOUR_NAMES)
    if kind not in VARIANTS:
        return Background(kind, colour)
    variant = _pick(rng, VARIANTS[kind])
    return Background(kind, colour, _pick(rng, _COLOUR_NAMES, (colour,)), variant)


def _sample_group(
    rng: np.random.Generator,
    count: int,
    sizes: tuple[str, ...],
    excluded: tuple[str, ...],
    plain: float,
) -> Group:
    """Sample a group in a colour that is not excluded; ``plain``: the probability of no texture."""
    size = _pick(rng, sizes)
    texture = "" if size == "small" or rng.random() < plain else _pick(rng, TEXTURES)
    return Group(count, size, texture, _pick(rng, _COLOUR_NAMES, excluded), _pick(rng, SHAPES))


def _sample_groups(
    rng: np.random.Generator,
    background: Background,
    counts: list[int],
    sizes: tuple[str, ...],
    plain: float,
) -> tuple[Group, ...]:
    """Sample one group per count, in colours that differ from each other and the background."""
    excluded: tuple[str, ...] = (background.colour, background.second_colour)
    groups: list[Group] = []
    for count in counts:
        groups.append(_sample_group(rng, count, sizes, excluded, plain))
        excluded += (groups[-1].colour,)
    return tuple(groups)


def _sample_simple(rng: np.random.Generator) -> Scene:
    """Sample a wall, or one object at a position that the caption names."""
    if rng.random() < 0.5:
        probabilities = (0.04, 0.24, 0.18, 0.24, 0.17, 0.13)
        return Scene("simple", _sample_background(rng, _SIMPLE_BACKGROUNDS, probabilities))
    background = _sample_background(rng, ("plain", "fading"), (0.8, 0.2))
    group = _sample_groups(rng, background, [1], ("", "large", "huge"), plain=0.8)[0]
    position = "in the centre" if group.size == "huge" else _pick(rng, tuple(POSITIONS))
    return Scene("simple", background, (replace(group, position=position),))


def _sample_middling(rng: np.random.Generator) -> Scene:
    """Sample one or two groups of one to three objects, without positions in the caption."""
    background_kinds = ("plain", "fading", "half", "striped", "starry")
    background = _sample_background(rng, background_kinds, (0.55, 0.15, 0.1, 0.1, 0.1))
    counts = [int(rng.integers(1, 4)) for _ in range(int(rng.integers(1, 3)))]
    sizes = ("small", "", "large") if sum(counts) < 4 else ("small", "")
    return Scene("middling", background, _sample_groups(rng, background, counts, sizes, plain=0.6))


def _sample_crowded(rng: np.random.Generator) -> Scene:
    """Sample one to three groups, with more objects and textures; some scenes have overlap."""
    background_kinds = ("plain", "fading", "half", "striped", "checkered", "starry")
    background = _sample_background(rng, background_kinds, (0.35, 0.15, 0.1, 0.1, 0.1, 0.2))
    overlap = bool(rng.random() < 0.4)
    if rng.random() < 0.35:
        counts = [MANY] + [int(rng.integers(1, 4)) for _ in range(int(rng.integers(0, 2)))]
    else:
        counts = [int(rng.integers(1, 5)) for _ in range(int(rng.integers(2, 4)))]
    sizes = ("small", "") if sum(counts) > 5 else ("small", "", "large")
    groups = _sample_groups(rng, background, counts, sizes, plain=0.4)
    return Scene("crowded", background, groups, overlap)


def _sample_patterned(rng: np.random.Generator) -> Scene:
    """Sample a wall with a pattern, or one object on a background with a pattern."""
    background = _sample_background(rng, PATTERNS)
    if rng.random() < 0.6:
        return Scene("patterned", background)
    group = _sample_groups(rng, background, [1], ("large", "huge"), plain=1.0)[0]
    return Scene("patterned", background, (replace(group, position="in the centre"),))


_SAMPLERS: dict[str, Callable[[np.random.Generator], Scene]] = {
    "simple": _sample_simple,
    "middling": _sample_middling,
    "crowded": _sample_crowded,
    "patterned": _sample_patterned,
}
SCENE_KINDS = tuple(_SAMPLERS)
"""The kinds of scene: the first three in order of complexity, and scenes with patterns."""


def sample_scene(rng: np.random.Generator, *scene_kinds: str) -> Scene:
    """Sample a scene of one of the given kinds, by default of any; all are equally likely."""
    return _SAMPLERS[_pick(rng, scene_kinds or SCENE_KINDS)](rng)


def neighbour(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return a similar scene, as a hard negative for training CLIP.

    In the new scene, one attribute of one group differs, or two groups have swapped their colours.
    If the scene has no groups, its background is sampled again, with the same kind.
    """
    if not scene.groups:
        return Scene(scene.kind, _sample_background(rng, (scene.background.kind,)))
    groups = list(scene.groups)
    i = int(rng.integers(len(groups)))
    attribute = str(rng.choice(["count", "colour", "shape", "texture", "swap"]))
    if attribute == "swap" and len(groups) > 1:
        j = (i + 1) % len(groups)
        swapped = replace(groups[i], colour=groups[j].colour)
        groups[i], groups[j] = swapped, replace(groups[j], colour=groups[i].colour)
    else:
        colours = (scene.background.colour, scene.background.second_colour)
        excluded = (*colours, *(g.colour for g in groups))
        groups[i] = _change(rng, groups[i], attribute, excluded)
    return replace(scene, groups=tuple(groups))


def _change(
    rng: np.random.Generator, group: Group, attribute: str, excluded: tuple[str, ...]
) -> Group:
    """Change one attribute of a group; if it cannot be changed, change the shape."""
    if attribute == "count" and not group.position and group.count < MANY:
        difference = 1 if group.count == 1 or rng.random() < 0.5 else -1
        return replace(group, count=max(1, group.count + difference))
    if attribute == "texture" and group.size != "small":
        return replace(group, texture=_pick(rng, ("", *TEXTURES), (group.texture,)))
    if attribute == "colour":
        return replace(group, colour=_pick(rng, _COLOUR_NAMES, excluded))
    return replace(group, shape=_pick(rng, SHAPES, (group.shape,)))

"""Parser of captions: the inverse of :meth:`catimage.scenes.grammar.Scene.caption`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from catimage.scenes.grammar import Background, Group, Scene
from catimage.scenes.vocabulary import (
    BACKGROUND_CAPTIONS,
    COLOURS,
    MANY,
    NUMBERS,
    POSITIONS,
    RADIUS,
    SHAPES,
    TEXTURES,
    VARIANTS,
)


def _one_of(names: Iterable[str]) -> str:
    """Return a regular expression that matches any of ``names``; it tries longer names first."""
    longest_first = sorted((re.escape(name) for name in names if name), key=len, reverse=True)
    return f"(?:{'|'.join(longest_first)})"


def _background_pattern(kind: str, template: str) -> re.Pattern[str]:
    """Return a regular expression for the captions of one kind of background."""
    return re.compile(
        template.replace("a plain", "an? (?:plain|empty)").format(
            noun="(?:wall|background)",
            colour=f"(?P<colour>{_COLOUR})",
            second_colour=f"(?P<second_colour>{_COLOUR})",
            variant=f"(?P<variant>{_one_of(VARIANTS.get(kind, ()))})",
        )
    )


_COLOUR = _one_of(COLOURS)
_BACKGROUND_PATTERNS = {
    kind: _background_pattern(kind, template) for kind, template in BACKGROUND_CAPTIONS.items()
}
_GROUP_PATTERN = re.compile(
    rf"(an?|many|{_one_of(NUMBERS[2:])})(?: ({_one_of(RADIUS)}))?(?: ({_one_of(TEXTURES)}))?"
    rf" ({_COLOUR}) ({_one_of(SHAPES)})(?:es|s)?(?: ({_one_of(POSITIONS)}))?"
)


def parse(caption: str) -> Scene | None:
    """Return the scene that a caption describes, with an empty ``kind``.

    The parser ignores case and repeated white space.

    Returns:
        The scene, or None if the grammar does not generate the text.
    """
    text = " ".join(caption.lower().split())
    wall = _parse_background(text)
    if wall is not None:
        return Scene("", wall)
    objects, _, background_text = text.rpartition(" on a")
    background = _parse_background("a" + background_text)
    overlap = objects.endswith(" overlapping")
    parts = re.split(", | and ", objects.removesuffix(" overlapping"))
    groups = [_parse_group(part) for part in parts]
    if background is None or None in groups:
        return None
    return Scene("", background, tuple(g for g in groups if g), overlap)


def _parse_background(text: str) -> Background | None:
    for kind, pattern in _BACKGROUND_PATTERNS.items():
        if match := pattern.fullmatch(text):
            return Background(kind, **match.groupdict())
    return None


def _parse_group(text: str) -> Group | None:
    match = _GROUP_PATTERN.fullmatch(text)
    if not match:
        return None
    number, size, texture, colour, shape, position = match.groups(default="")
    count = MANY if number == "many" else 1 if number in ("a", "an") else NUMBERS.index(number)
    return Group(count, size, texture, colour, shape, position)

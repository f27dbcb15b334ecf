"""The inverse of :meth:`catimage.scenes.grammar.Scene.caption`: what a caption of the grammar says."""

from __future__ import annotations

import re
from collections.abc import Iterable

from catimage.scenes.grammar import (
    COLOURS,
    MANY,
    NUMBERS,
    POSITIONS,
    RADIUS,
    SHAPES,
    TEXTURES,
    WAYS,
    Background,
    Group,
    Scene,
)


def _any(names: Iterable[str]) -> str:
    """A regular expression that matches one of ``names``, the longest first."""
    longest_first = sorted((re.escape(name) for name in names if name), key=len, reverse=True)
    return f"(?:{'|'.join(longest_first)})"


_COLOUR = _any(COLOURS)
_WAY = {kind: _any(ways) for kind, ways in WAYS.items()}
_BACKGROUNDS = {
    kind: re.compile(
        pattern.replace("COLOUR", f"({_COLOUR})").replace("NOUN", "(?:wall|background)")
    )
    for kind, pattern in {
        "plain": "an? (?:plain|empty) COLOUR NOUN",
        "fading": f"a NOUN fading from COLOUR to COLOUR ({_WAY['fading']})",
        "half": f"a NOUN half COLOUR and half COLOUR ({_WAY['half']})",
        "banded": f"a COLOUR NOUN with a wide COLOUR band ({_WAY['banded']})",
        "striped": f"a NOUN of ({_WAY['striped']}) COLOUR and COLOUR stripes",
        "checkered": f"a NOUN of ({_WAY['checkered']}) COLOUR and COLOUR checks",
        "starry": "a starry COLOUR NOUN",
        "zigzag": f"a NOUN of ({_WAY['zigzag']}) COLOUR and COLOUR zigzags",
        "diamonds": f"a NOUN of ({_WAY['diamonds']}) COLOUR and COLOUR diamonds",
        "hoops": f"a NOUN of ({_WAY['hoops']}) COLOUR and COLOUR hoops",
        "bricks": f"a NOUN of ({_WAY['bricks']}) COLOUR bricks and COLOUR mortar",
        "slanted": f"a NOUN of ({_WAY['slanted']}) COLOUR and COLOUR stripes",
    }.items()
}
_GROUP = re.compile(
    rf"(an?|many|{_any(NUMBERS[2:])})(?: ({_any(RADIUS)}))?(?: ({_any(TEXTURES)}))?"
    rf" ({_COLOUR}) ({_any(SHAPES)})(?:es|s)?(?: ({_any(POSITIONS)}))?"
)


def parse(caption: str) -> Scene | None:
    """The scene that ``caption`` describes, its ``kind`` left empty; None for a text that is not of
    the grammar.
    """
    text = " ".join(caption.lower().split())
    wall = _background(text)
    if wall is not None:
        return Scene("", wall)
    listed, _, ground = text.rpartition(" on a")
    background = _background("a" + ground)
    overlap = listed.endswith(" overlapping")
    groups = [_group(part) for part in re.split(", | and ", listed.removesuffix(" overlapping"))]
    if background is None or None in groups:
        return None
    return Scene("", background, tuple(g for g in groups if g), overlap)


def _background(text: str) -> Background | None:
    for kind, pattern in _BACKGROUNDS.items():
        found = pattern.fullmatch(text)
        if found:
            colours = [w for w in found.groups() if w in COLOURS]
            way = next((w for w in found.groups() if w not in COLOURS), "")
            return Background(kind, colours[0], colours[1] if len(colours) > 1 else "", way)
    return None


def _group(text: str) -> Group | None:
    found = _GROUP.fullmatch(text)
    if not found:
        return None
    number, size, texture, colour, shape, position = (w or "" for w in found.groups())
    count = MANY if number == "many" else 1 if number in ("a", "an") else NUMBERS.index(number)
    return Group(count, size, texture, colour, shape, position)

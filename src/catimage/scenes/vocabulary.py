"""The words of the scene grammar, with the RGB values, radii and positions that they stand for."""

from __future__ import annotations

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
"""RGB values from 0 to 255, by name of the colour."""
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "moon")
TEXTURES = ("striped", "spotted", "checkered")
NUMBERS = ("", "a", "two", "three", "four", "five", "six")
"""Words for numbers of objects; the index is the number."""
MANY = 7
"""The count of a group whose caption says "many"; an image has 7 to 10 such objects."""
RADIUS = {"small": 6.0, "": 9.0, "large": 13.0, "huge": 20.0}
"""Radius of an object in pixels, by size; the empty string stands for no size in the caption."""
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
"""Horizontal and vertical position of an object's centre, as a fraction of the image."""
VARIANTS: dict[str, tuple[str, ...]] = {
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
"""Variants of each kind of background with two colours: directions, positions or sizes."""
PATTERNS = ("zigzag", "diamonds", "hoops", "bricks", "slanted")
"""Kinds of background that only patterned scenes have."""
BACKGROUND_CAPTIONS: dict[str, str] = {
    "plain": "a plain {colour} {noun}",
    "fading": "a {noun} fading from {colour} to {second_colour} {variant}",
    "half": "a {noun} half {colour} and half {second_colour} {variant}",
    "banded": "a {colour} {noun} with a wide {second_colour} band {variant}",
    "striped": "a {noun} of {variant} {colour} and {second_colour} stripes",
    "checkered": "a {noun} of {variant} {colour} and {second_colour} checks",
    "starry": "a starry {colour} {noun}",
    "zigzag": "a {noun} of {variant} {colour} and {second_colour} zigzags",
    "diamonds": "a {noun} of {variant} {colour} and {second_colour} diamonds",
    "hoops": "a {noun} of {variant} {colour} and {second_colour} hoops",
    "bricks": "a {noun} of {variant} {colour} bricks and {second_colour} mortar",
    "slanted": "a {noun} of {variant} {colour} and {second_colour} stripes",
}
"""Caption template by kind of background; ``noun`` is "wall" or "background"."""

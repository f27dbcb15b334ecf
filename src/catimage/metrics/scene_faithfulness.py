"""Agreement of an image with its caption of the scene grammar, measured on the pixels.

The metric follows GenEval (Ghosh et al. 2023). A caption describes a background and groups of equal
objects, such as "two small red rings". Objects are flat shapes in ten colours and can therefore be
detected without a network: every pixel is assigned to the nearest of the ten colours, and an object
is a connected component of the pixels of its group's colour.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

from catimage.errors import InputError
from catimage.metrics.metric import Metric
from catimage.scenes.grammar import Group, Scene
from catimage.scenes.parse import parse
from catimage.scenes.render import SIZE, render_background, silhouette
from catimage.scenes.vocabulary import COLOURS, MANY, POSITIONS, RADIUS, SHAPES

_COLOUR_NAMES = tuple(COLOURS)
_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
_CELLS = 16
"""The width and height to which objects and silhouettes are resized for their comparison."""
_MIN_COMPONENT = 0.2
"""A component is ignored if its area is less than this share of the area of one object."""
_MAX_SINGLE = 1.6
"""A component is several merged objects if its area is more than this multiple of the area of one
object.
"""
_MIN_TEXTURE = 0.12
"""An object is textured if another colour covers more than this share of its area."""
_MAX_DISTANCE = 0.15
"""The largest distance of an object from the position that the caption gives, in image widths."""


class SceneFaithfulness(Metric):
    """The mean agreement of the background and of each group of objects with the caption.

    The agreement of the background is the share of its pixels that have the expected colour,
    excluding objects and their borders. The agreement of a group is the mean of the agreements of
    its number (1 minus the relative error), shape, size and texture, and of its position if the
    caption gives one. For shape, size and position, the agreement is the share of the objects that
    agree. The number of merged objects is estimated from their area; if the caption contains
    "overlapping", the shape and size of merged objects are not checked. Rendered images score
    nearly 1, or less if many objects hide each other.
    """

    name = "scene_faithfulness"
    range = (0.0, 1.0)

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, 64, 64, 3), for n captions.

        Raises:
            InputError: a prompt is not a caption of the scene grammar, or the images have another
                size.
        """
        if images.shape[1:3] != (SIZE, SIZE):
            raise InputError(
                f"label.metrics: {self.name} needs images of {SIZE}x{SIZE} pixels, not of"
                f" {images.shape[2]}x{images.shape[1]}. Remove the metric."
            )
        return np.array(
            [
                faithfulness(image, _scene(prompt))
                for image, prompt in zip(images, prompts, strict=True)
            ],
            float,
        )


@cache
def _scene(prompt: str) -> Scene:
    scene = parse(prompt)
    if scene is None:
        raise InputError(
            f"label.metrics: scene_faithfulness needs captions of the scene grammar, and {prompt!r}"
            " is not one. Remove the metric."
        )
    return scene


def faithfulness(image: np.ndarray, scene: Scene) -> float:
    """Return the score of one image, uint8 (64, 64, 3)."""
    colours = _nearest_colours(image)
    masks = [_mask(colours, group) for group in scene.groups]
    outside_objects = (
        ~ndimage.binary_dilation(np.any(masks, axis=0), iterations=2)
        if masks
        else np.ones(colours.shape, bool)
    )
    expected = _nearest_colours(render_background(scene.background))
    agrees = (colours == expected)[outside_objects]
    background = float(agrees.mean()) if agrees.size else 0.0
    groups = [
        _group_score(colours, mask, group, scene)
        for mask, group in zip(masks, scene.groups, strict=True)
    ]
    return float(np.mean([background, *groups]))


def _nearest_colours(image: np.ndarray) -> np.ndarray:
    """Return the index of the colour in ``COLOURS`` that is nearest to each pixel, int (h, w)."""
    palette = np.array(list(COLOURS.values()), np.float32)
    distances = np.square(image[:, :, None].astype(np.float32) - palette).sum(3)
    return np.asarray(distances.argmin(2))


def _mask(colours: np.ndarray, group: Group) -> np.ndarray:
    """Return a mask of the pixels of a group's objects, without small components.

    The second colour of a texture belongs to the objects.
    """
    mask = colours == _COLOUR_NAMES.index(group.colour)
    if group.texture:
        mask = _closed(mask)
    labels, count = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    return np.asarray((areas >= _MIN_COMPONENT * _area(group))[labels])


def _closed(mask: np.ndarray) -> np.ndarray:
    """Fill gaps of up to four pixels, such as those between the stripes of a texture."""
    return np.asarray(
        ndimage.binary_closing(np.pad(mask, 4), _EIGHT_NEIGHBOURS, iterations=2)[4:-4, 4:-4]
    )


def _area(group: Group) -> float:
    """Return the number of pixels of one object of the group's shape and size."""
    return float(silhouette(group.shape, RADIUS[group.size]).sum())


def _group_score(colours: np.ndarray, mask: np.ndarray, group: Group, scene: Scene) -> float:
    labels, component_count = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    if not component_count:
        return 0.0
    slices = ndimage.find_objects(labels)
    components = [labels[s] == i + 1 for i, s in enumerate(slices)]
    single = [p.sum() < _MAX_SINGLE * _area(group) for p in components]
    number = sum(
        1 if is_single else max(1, round(p.sum() / _area(group)))
        for p, is_single in zip(components, single, strict=True)
    )
    checked = [
        p for p, is_single in zip(components, single, strict=True) if is_single or not scene.overlap
    ] or components
    scores = [
        _number_score(number, group.count),
        _shape_score(checked, group),
        _size_score(checked, group),
        _texture_score(colours, mask, group),
    ]
    if group.position:
        scores.append(float(np.mean([_is_at_position(s, group) for s in slices])))
    return float(np.mean(scores))


def _number_score(number: int, expected: int) -> float:
    if expected >= MANY and number >= MANY - 1:
        return 1.0
    return max(0.0, 1 - abs(number - expected) / expected)


@cache
def _templates() -> np.ndarray:
    """Return resized silhouettes of all shapes, bool (n_shapes, _CELLS, _CELLS)."""
    return np.stack([_resized(_cropped(silhouette(shape, 20.0))) for shape in SHAPES])


def _cropped(mask: np.ndarray) -> np.ndarray:
    return np.asarray(mask[ndimage.find_objects(mask.astype(int))[0]])


def _resized(mask: np.ndarray) -> np.ndarray:
    rows, columns = (
        np.minimum((np.arange(_CELLS) + 0.5) * n / _CELLS, n - 1).astype(int) for n in mask.shape
    )
    return np.asarray(mask[np.ix_(rows, columns)])


def _shape_score(components: list[np.ndarray], group: Group) -> float:
    """Return the share of components whose most similar shape, by IoU, is that of the group."""
    cells = np.stack([_resized(p) for p in components])[:, None]
    overlap = (cells & _templates()).sum((2, 3)) / (cells | _templates()).sum((2, 3))
    return float((overlap.argmax(1) == SHAPES.index(group.shape)).mean())


def _size_score(components: list[np.ndarray], group: Group) -> float:
    """Return the share of components whose area is nearest to that of the group's size."""
    areas = np.array([float(silhouette(group.shape, r).sum()) for r in RADIUS.values()])
    nearest = np.abs(np.log(np.array([p.sum() for p in components])[:, None] / areas)).argmin(1)
    return float((nearest == list(RADIUS).index(group.size)).mean())


def _texture_score(colours: np.ndarray, mask: np.ndarray, group: Group) -> float:
    """Return 1 if components and group agree in whether they have a texture, and 0 otherwise.

    Components have a texture if they contain a second colour. The kind of texture is not checked.
    """
    inside = ndimage.binary_erosion(_closed(mask), iterations=1)
    is_other = (colours != _COLOUR_NAMES.index(group.colour))[inside]
    share = float(is_other.mean()) if is_other.size else 0.0
    return float((share > _MIN_TEXTURE) == bool(group.texture))


def _is_at_position(bounds: tuple[slice, ...], group: Group) -> bool:
    x, y = POSITIONS[group.position]
    centre = [(s.start + s.stop) / 2 / SIZE for s in bounds]
    return bool(np.hypot(centre[0] - y, centre[1] - x) < _MAX_DISTANCE)

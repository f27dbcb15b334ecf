"""Does an image show what a caption of the tiny pool's scene grammar says? Measured on the pixels,
in the spirit of GenEval.

The scenes are flat shapes in ten colours, so that a detector needs no network: a pixel has the
nearest of the ten colours, and an object is a connected patch of its group's colour.
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

_NAMES = tuple(COLOURS)
_EIGHT = np.ones((3, 3), bool)
_CELLS = 16
"""Objects are compared with silhouettes stretched to this many cells a side."""


class SceneFaithfulness(Metric):
    """The share of what a caption says that the image shows: the mean over its background and its
    groups of objects.

    A background counts by the share of its pixels, away from objects, that have the colour it would
    be drawn in. A group counts by the mean of: number (1 less the relative error), shapes, sizes,
    textures and places (the share of its objects for which each is right). Objects of a group that
    have grown together are counted by their area, and where the caption says "overlapping" their
    shape and size are not judged. The renderer's own images score nearly 1, crowded ones less,
    since objects hide each other.
    """

    name = "scene_faithfulness"
    range = (0.0, 1.0)

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """uint8 (n, h, w, 3) and n captions to float64 (n,).

        Raises:
            InputError: a prompt is not a caption of the scene grammar, or the images are not of 64
                x 64 pixels.
        """
        if images.shape[1:3] != (SIZE, SIZE):
            raise InputError(
                f"metric {self.name!r}: judges images of {SIZE}x{SIZE} pixels, not"
                f" {images.shape[2]}x{images.shape[1]}."
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
            f"metric 'scene_faithfulness': {prompt!r} is no caption of the tiny pool's scene"
            " grammar; leave the metric out."
        )
    return scene


def faithfulness(image: np.ndarray, scene: Scene) -> float:
    """The score of one image, uint8 (64, 64, 3)."""
    names = _nearest_colours(image)
    masks = [_mask(names, group) for group in scene.groups]
    free = (
        ~ndimage.binary_dilation(np.any(masks, axis=0), iterations=2)
        if masks
        else np.ones(names.shape, bool)
    )
    wanted = _nearest_colours(render_background(scene.background))
    background = float((names == wanted)[free].mean()) if free.any() else 0.0
    groups = [
        _group_score(names, mask, group, scene)
        for mask, group in zip(masks, scene.groups, strict=True)
    ]
    return float(np.mean([background, *groups]))


def _nearest_colours(image: np.ndarray) -> np.ndarray:
    """The index of the nearest colour of every pixel: int (h, w)."""
    palette = np.array(list(COLOURS.values()), np.float32)
    apart = np.square(image[:, :, None].astype(np.float32) - palette).sum(3)
    return np.asarray(apart.argmin(2))


def _mask(names: np.ndarray, group: Group) -> np.ndarray:
    """Where the group's objects are: patches of its colour, closed over the second colour of a
    texture; specks left out.
    """
    mask = names == _NAMES.index(group.colour)
    if group.texture:
        mask = _closed(mask)
    labels, count = ndimage.label(mask, _EIGHT)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    return np.asarray((areas >= 0.2 * _area(group))[labels])


def _closed(mask: np.ndarray) -> np.ndarray:
    """Gaps of up to four pixels filled, as between the stripes, spots and checks of a texture."""
    return np.asarray(ndimage.binary_closing(np.pad(mask, 4), _EIGHT, iterations=2)[4:-4, 4:-4])


def _area(group: Group) -> float:
    """Pixels of one object as the caption has it."""
    return float(silhouette(group.shape, RADIUS[group.size]).sum())


def _group_score(names: np.ndarray, mask: np.ndarray, group: Group, scene: Scene) -> float:
    labels, found = ndimage.label(mask, _EIGHT)
    if not found:
        return 0.0
    slices = ndimage.find_objects(labels)
    patches = [labels[s] == i + 1 for i, s in enumerate(slices)]
    whole = [p.sum() < 1.6 * _area(group) for p in patches]  # not several objects grown together
    number = sum(
        1 if alone else max(1, round(p.sum() / _area(group)))
        for p, alone in zip(patches, whole, strict=True)
    )
    judged = [
        p for p, alone in zip(patches, whole, strict=True) if alone or not scene.overlap
    ] or patches
    marks = [
        _number(number, group.count),
        _shapes(judged, group),
        _sizes(judged, group),
        _texture(names, mask, group),
    ]
    if group.position:
        marks.append(float(np.mean([_placed(s, group) for s in slices])))
    return float(np.mean(marks))


def _number(found: int, wanted: int) -> float:
    if wanted >= MANY and found >= MANY - 1:
        return 1.0
    return max(0.0, 1 - abs(found - wanted) / wanted)


@cache
def _templates() -> np.ndarray:
    """Silhouettes of all shapes, stretched: bool (n_shapes, cells, cells)."""
    return np.stack([_stretched(_cropped(silhouette(shape, 20.0))) for shape in SHAPES])


def _cropped(mask: np.ndarray) -> np.ndarray:
    return np.asarray(mask[ndimage.find_objects(mask.astype(int))[0]])


def _stretched(mask: np.ndarray) -> np.ndarray:
    rows, columns = (
        np.minimum((np.arange(_CELLS) + 0.5) * n / _CELLS, n - 1).astype(int) for n in mask.shape
    )
    return np.asarray(mask[np.ix_(rows, columns)])


def _shapes(patches: list[np.ndarray], group: Group) -> float:
    """The share of patches that are more like the group's shape than like any other (intersection
    over union).
    """
    cells = np.stack([_stretched(p) for p in patches])[:, None]
    overlap = (cells & _templates()).sum((2, 3)) / (cells | _templates()).sum((2, 3))
    return float((overlap.argmax(1) == SHAPES.index(group.shape)).mean())


def _sizes(patches: list[np.ndarray], group: Group) -> float:
    """The share of patches whose area is nearest to that of the size which is told, of all sizes."""
    areas = np.array([float(silhouette(group.shape, r).sum()) for r in RADIUS.values()])
    nearest = np.abs(np.log(np.array([p.sum() for p in patches])[:, None] / areas)).argmin(1)
    return float((nearest == list(RADIUS).index(group.size)).mean())


def _texture(names: np.ndarray, mask: np.ndarray, group: Group) -> float:
    """Whether the patches hold a second colour exactly if a texture is told; which texture it is,
    is not looked at.
    """
    inside = ndimage.binary_erosion(_closed(mask), iterations=1)
    share = float((names != _NAMES.index(group.colour))[inside].mean()) if inside.any() else 0.0
    return float((share > 0.12) == bool(group.texture))


def _placed(where: tuple[slice, ...], group: Group) -> bool:
    x, y = POSITIONS[group.position]
    centre = [(s.start + s.stop) / 2 / SIZE for s in where]
    return bool(np.hypot(centre[0] - y, centre[1] - x) < 0.15)

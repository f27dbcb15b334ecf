"""An image less its Gaussian blur, for whole batches: what sharpness and L-SNR are made of.

The blur is that of ``scipy.ndimage.gaussian_filter`` with a standard deviation of 1 pixel: 4 pixels
to each side, weights that sum to one, borders mirrored at the pixels' edges. Along an axis it is a
band matrix, and here a product with blocks of it. Pixels are float32 and sums over an image
float64: sums agree with those of float64 pixels to about 1e-6 of themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from joblib import cpu_count

_RADIUS = 4
_TILE = 16
"""Pixels that a block of the band matrix makes along a column (twice as many along a row): the
fastest of those tried.
"""
_PIXELS = 2**18
"""Pixels that are worked on at once: about what fits a core's cache, however many images there are.
"""
_LUMA = np.array([299, 587, 114], np.float32)
"""ITU-R 601, in thousandths: the luma of 8-bit colours is then an integer, and exact in float32."""


class Level(NamedTuple):
    """Of n images: the luma's ``mean`` and ``variance``, each float64 (n,), and ``detail``, float32
    (h, n, w), the luma less its blur.

    The detail is the finest level of the Laplacian pyramid that the Gaussian makes. Units:
    thousandths of a grey level, and their square.
    """

    mean: np.ndarray
    variance: np.ndarray
    detail: np.ndarray


def of_levels(images: np.ndarray, statistic: Callable[[Level], np.ndarray]) -> np.ndarray:
    """A statistic, float64 (m,), of the levels of m images at a time, joined to that of uint8 (n,
    h, w, 3): float64 (n,).

    As many images as fit a core's cache are worked on at once, on each core.
    """
    at_once = max(1, _PIXELS // (images.shape[1] * images.shape[2]))
    parts = [images[start : start + at_once] for start in range(0, max(1, len(images)), at_once)]
    with ExitStack() as stack:
        stack.enter_context(
            _threads().limit(limits=1, user_api="blas")
        )  # products this small wait longer for threads than they take
        pool = stack.enter_context(ThreadPoolExecutor(cpu_count()))
        return np.concatenate(list(pool.map(lambda part: statistic(_level(part)), parts)))


@cache
def _threads() -> Any:
    """Of numpy's matrix products."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _level(images: np.ndarray) -> Level:
    luma = _luma(images)
    shift = np.rint(mean(luma))  # changes no detail, rounds less, and is exact
    luma -= shift[:, None].astype(np.float32)
    rest = mean(luma)
    variance = power(luma) - rest**2
    return Level(shift + rest, variance, np.subtract(luma, _blurred(luma), out=luma))


def mean(planes: np.ndarray) -> np.ndarray:
    """Of each image of float32 (h, n, w): float64 (n,)."""
    return _mean(np.vecdot(planes, np.ones(planes.shape[2], np.float32)), planes)


def power(planes: np.ndarray) -> np.ndarray:
    """The mean square of each image of float32 (h, n, w): float64 (n,)."""
    return _mean(np.vecdot(planes, planes), planes)


def _mean(rows: np.ndarray, planes: np.ndarray) -> np.ndarray:
    return np.asarray(rows.sum(0, dtype=np.float64) / (planes.shape[0] * planes.shape[2]))


def _luma(images: np.ndarray) -> np.ndarray:
    """uint8 (n, h, w, 3) to float32 (h, n, w): the axes along which matrices are multiplied come
    first and last.
    """
    n, h, w, _ = images.shape
    return np.asarray(
        (images.transpose(1, 0, 2, 3).astype(np.float32, order="C").reshape(-1, 3) @ _LUMA).reshape(
            h, n, w
        )
    )


def _blurred(planes: np.ndarray) -> np.ndarray:
    """float32 (h, n, w) to the same."""
    h, n, w = planes.shape
    rows = planes.reshape(h, n * w)
    down = np.empty_like(rows)
    for made, seen, block in _blocks(h, _TILE):
        np.matmul(block.T, rows[seen], out=down[made])
    columns = down.reshape(h * n, w)
    across = np.empty_like(columns)
    for made, seen, block in _blocks(w, 2 * _TILE):
        np.matmul(columns[:, seen], block, out=across[:, made])
    return across.reshape(h, n, w)


@lru_cache(maxsize=16)
def _blocks(size: int, tile: int) -> list[tuple[slice, slice, np.ndarray]]:
    """The blur along ``size`` pixels: those that a block makes, those that it sees, and its
    weights, float32 (seen, made).
    """
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    kernel = np.exp(-(offsets**2) / 2)
    kernel /= kernel.sum()
    found = []
    for start in range(0, size, tile):
        made = np.arange(start, min(start + tile, size))
        places = (made[:, None] + offsets) % (2 * size)
        places = np.minimum(places, 2 * size - 1 - places)  # mirrored
        seen = slice(int(places.min()), int(places.max()) + 1)
        block = np.zeros((seen.stop - seen.start, len(made)))
        np.add.at(block, (places - seen.start, np.arange(len(made))[:, None]), kernel)
        found.append((slice(start, start + len(made)), seen, block.astype(np.float32)))
    return found

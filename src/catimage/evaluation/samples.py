"""A few prompts of the test split for the report: what the router chose, and what it could have
had.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.evaluation.methods import Pool

PROMPTS = 6
CANDIDATES = 8


@dataclass(frozen=True)
class Cell:
    """One candidate for one prompt; ``image`` is a data URI, or empty."""

    candidate: str
    image: str
    predicted: float
    measured: float
    chosen: bool


@dataclass(frozen=True)
class Sample:
    """A prompt and its candidates, by cost."""

    prompt: str
    cells: list[Cell]


def telling_prompts(predicted: Floats, cost: Floats, most: int = PROMPTS) -> Ints:
    """Rows of prompts from the one that gains least by spending more to the one that gains most,
    evenly spaced by rank.

    What is ranked is the predicted quality of the dearest candidate less that of the cheapest: the
    effect that routing feeds on (CATImage, figure 1). ``predicted`` is (n_prompts, n_candidates),
    ``cost`` (n_candidates,).
    """
    worth = predicted[:, int(np.argmax(cost))] - predicted[:, int(np.argmin(cost))]
    order = np.argsort(worth, kind="stable")
    places = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)
    return np.asarray(order[np.unique(places)], np.int64)


def samples(
    rows: Ints,
    prompts: list[str],
    predicted: Floats,
    labels: Floats,
    pool: Pool,
    picked: Ints,
    images: dict[tuple[int, str], bytes],
) -> list[Sample]:
    """The prompts at ``rows``, each with at most eight candidates that span the costs, and always
    the chosen one.

    Args:
        prompts: (n_prompts,); ``predicted`` and ``labels`` (n_prompts, n_candidates).
        picked: the candidate that each prompt gets, (n_prompts,).
        images: encoded images by row and candidate; what is missing is left out.
    """
    order = np.argsort(pool.cost, kind="stable")
    spanning = order[
        np.linspace(0, len(order) - 1, min(CANDIDATES, len(order))).round().astype(int)
    ]

    def cell(i: int, m: int, chosen: bool) -> Cell:
        name = pool.candidates[m]
        return Cell(
            name,
            data_uri(images.get((i, name))),
            float(predicted[i, m]),
            float(labels[i, m]),
            chosen,
        )

    return [
        Sample(
            prompts[i],
            [cell(i, m, m == chosen) for m in order.tolist() if m in spanning or m == chosen],
        )
        for i, chosen in zip(rows.tolist(), picked[rows].tolist(), strict=True)
    ]


def data_uri(image: bytes | None) -> str:
    """An encoded image (PNG, WebP or JPEG) as a ``data:`` URI; an empty text for none."""
    if image is None:
        return ""
    kind = "png" if image.startswith(b"\x89PNG") else "webp" if image[8:12] == b"WEBP" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"

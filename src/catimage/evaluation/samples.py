"""Predictions and labels per test prompt, and the sample prompts of the report."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Candidates

MAX_PROMPTS = 6
"""Maximum number of prompts in the report's section "Sample prompts"."""
MAX_CANDIDATES = 8
"""Maximum number of candidates shown per prompt, besides the routed one."""

Images = Mapping[tuple[str, str], bytes]
"""Encoded images by prompt id and candidate."""


@dataclass(frozen=True)
class PromptResults:
    """Test prompts with the router's predictions and the labels.

    Attributes:
        ids: the ids of the prompts.
        texts: the texts of the prompts.
        predicted: predicted qualities, (n_prompts, n_candidates).
        labels: measured qualities, (n_prompts, n_candidates).
        candidates: the candidates, in the order of the columns of both arrays.
    """

    ids: list[str]
    texts: list[str]
    predicted: Floats
    labels: Floats
    candidates: Candidates

    def sample(self, row: int, columns: list[int], routed: int, images: Images) -> Sample:
        """Return the prompt at ``row`` with the candidates at ``columns``, for the report.

        Args:
            row: the position of the prompt.
            columns: the positions of the candidates to show.
            routed: the position of the routed candidate.
            images: encoded images; those of some candidates may be missing.
        """
        names = self.candidates.names
        cells = [
            Cell(
                names[m],
                data_uri(images.get((self.ids[row], names[m]))),
                float(self.predicted[row, m]),
                float(self.labels[row, m]),
                m == routed,
            )
            for m in columns
        ]
        return Sample(self.texts[row], cells)


@dataclass(frozen=True)
class Cell:
    """One candidate for one prompt in the report.

    Attributes:
        candidate: the name of the candidate.
        image: the image as a data URI; empty if there is none.
        predicted: the predicted quality.
        measured: the measured quality.
        is_routed: whether the router selects this candidate for the prompt.
    """

    candidate: str
    image: str
    predicted: float
    measured: float
    is_routed: bool


@dataclass(frozen=True)
class Sample:
    """A prompt in the report.

    Attributes:
        prompt: the text of the prompt.
        cells: the candidates that are shown with the prompt.
    """

    prompt: str
    cells: list[Cell]


def contrasting_prompts(predicted: Floats, costs: Floats, limit: int = MAX_PROMPTS) -> Ints:
    """Select prompts that gain little and prompts that gain much from the most expensive candidate.

    The gain is the predicted quality of the most expensive candidate minus that of the cheapest
    (CATImage paper, figure 1). The selected prompts are evenly spaced in the order of their gains.

    Args:
        predicted: predicted qualities, (n_prompts, n_candidates).
        costs: the candidates' costs, (n_candidates,).
        limit: the maximum number of prompts.

    Returns:
        The positions of the selected prompts, from the smallest to the largest gain.
    """
    gain = predicted[:, int(np.argmax(costs))] - predicted[:, int(np.argmin(costs))]
    order = np.argsort(gain, kind="stable")
    ranks = np.linspace(0, len(order) - 1, min(limit, len(order))).round().astype(int)
    return np.asarray(order[np.unique(ranks)], np.int64)


def samples(rows: Ints, results: PromptResults, picked: Ints, images: Images) -> list[Sample]:
    """Return the prompts at ``rows``, each with at most eight candidates and the routed one.

    Args:
        rows: the positions of the prompts.
        results: predictions and labels of all prompts.
        picked: the position of the candidate that is selected for each prompt, (n_prompts,).
        images: encoded images; those of some candidates may be missing.
    """
    order = np.argsort(results.candidates.costs, kind="stable")
    count = min(MAX_CANDIDATES, len(order))
    spanning = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
    return [
        results.sample(
            i, [m for m in order.tolist() if m in spanning or m == routed], routed, images
        )
        for i, routed in zip(rows.tolist(), picked[rows].tolist(), strict=True)
    ]


def data_uri(image: bytes | None) -> str:
    """Return an encoded image (PNG, WebP or JPEG) as a ``data:`` URI; an empty string for None."""
    if image is None:
        return ""
    kind = "png" if image.startswith(b"\x89PNG") else "webp" if image[8:12] == b"WEBP" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"

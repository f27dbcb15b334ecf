"""Metrics of a set of images: how far a set is from real images, and how clear and various it is.

CATImage names quality at the level of sets as its limitation: a router that sends each prompt to
the best candidate for it may still make a set that is less various, or further from real images,
than that of one candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal

from catimage.errors import InputError, nearest
from catimage.metrics.sets.distances import ImageSet, frechet, inception_score, kernel

__all__ = ["SET_METRICS", "ImageSet", "SetMetric", "set_metric"]


@dataclass(frozen=True)
class SetMetric:
    """What a metric of sets declares.

    Attributes:
        name: snake_case. Only what the Inception network sees is called ``fid``, ``kid`` and
            ``inception_score``.
        network: which extractor of :mod:`catimage.metrics.sets.features` looks at the images.
        reads: its features, or the logits that it makes of them.
        statistic: of the set, and where ``needs_reference`` of a set of real images.
        range: the lowest and highest value.
    """

    name: str
    network: Literal["tiny", "inception"]
    reads: Literal["features", "logits"]
    statistic: Callable[[ImageSet, ImageSet | None], float]
    range: tuple[float, float]
    higher_is_better: bool = False
    needs_reference: bool = True


SET_METRICS: Mapping[str, SetMetric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            SetMetric("fid", "inception", "features", frechet, (0.0, inf)),
            SetMetric("fid_tiny", "tiny", "features", frechet, (0.0, inf)),
            SetMetric(
                "inception_score",
                "inception",
                "logits",
                inception_score,
                (1.0, 1008.0),
                True,
                False,
            ),
            SetMetric("is_tiny", "tiny", "logits", inception_score, (1.0, 100.0), True, False),
            SetMetric("kid", "inception", "features", kernel, (-inf, inf)),
            SetMetric("kid_tiny", "tiny", "features", kernel, (-16.0, 16.0)),
        )
    }
)
"""The metrics that ``evaluate.set_metrics`` may name."""


def set_metric(name: str) -> SetMetric:
    """The metric of that name.

    Raises:
        InputError: there is none.
    """
    if name not in SET_METRICS:
        known = list(SET_METRICS)
        raise InputError(
            f"evaluate.set_metrics: there is no {name!r}{nearest(name, known)}; there are"
            f" {', '.join(known)}."
        )
    return SET_METRICS[name]

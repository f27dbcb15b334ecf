"""The metrics of sets of images, by name.

The CATImage paper names the quality of sets of images as a limitation: a router that sends each
prompt to the best candidate may produce a set that is less diverse, or further from real images,
than the set of a single candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal

from catimage.errors import InputError, nearest
from catimage.metrics.sets.distances import (
    ImageSet,
    frechet_distance,
    inception_score,
    kernel_distance,
)


@dataclass(frozen=True)
class SetMetric:
    """A metric of a set of images.

    Attributes:
        name: the name, in snake_case. ``fid``, ``kid`` and ``inception_score`` are reserved for the
            Inception network.
        network: the network of :mod:`catimage.metrics.sets.features` that extracts features.
        output: the output of the network that the statistic uses.
        statistic: a function of the set and of a set of real images; the second argument may be
            None if ``needs_reference`` is False.
        range: the lowest and the highest possible value.
        higher_is_better: the direction of the values.
        needs_reference: whether a set of real images is required.
    """

    name: str
    network: Literal["tiny", "inception"]
    output: Literal["features", "logits"]
    statistic: Callable[[ImageSet, ImageSet | None], float]
    range: tuple[float, float]
    higher_is_better: bool = False
    needs_reference: bool = True


_METRICS = (
    SetMetric("fid", "inception", "features", frechet_distance, (0.0, inf)),
    SetMetric("fid_tiny", "tiny", "features", frechet_distance, (0.0, inf)),
    SetMetric(
        "inception_score",
        "inception",
        "logits",
        inception_score,
        (1.0, 1008.0),
        higher_is_better=True,
        needs_reference=False,
    ),
    SetMetric(
        "is_tiny",
        "tiny",
        "logits",
        inception_score,
        (1.0, 100.0),
        higher_is_better=True,
        needs_reference=False,
    ),
    SetMetric("kid", "inception", "features", kernel_distance, (-inf, inf)),
    SetMetric("kid_tiny", "tiny", "features", kernel_distance, (-16.0, 16.0)),
)
SET_METRICS: Mapping[str, SetMetric] = MappingProxyType({m.name: m for m in _METRICS})
"""The metrics that ``evaluate.set_metrics`` may list."""


def set_metric(name: str) -> SetMetric:
    """Return a metric of sets by its name.

    Raises:
        InputError: the metric is unknown.
    """
    if name not in SET_METRICS:
        names = list(SET_METRICS)
        raise InputError(
            f"evaluate.set_metrics: unknown metric {name!r}{nearest(name, names)}. Use one of"
            f" {', '.join(names)}."
        )
    return SET_METRICS[name]

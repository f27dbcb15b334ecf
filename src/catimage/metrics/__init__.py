"""Quality metrics (CATImage 5.1): q maps a prompt and an image to a number."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from catimage.errors import InputError, nearest
from catimage.params import Encoder, Params

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "clip_score": "catimage.metrics.clip_score:ClipScore",
        "scene_faithfulness": "catimage.metrics.scene_faithfulness:SceneFaithfulness",
        "sharpness": "catimage.metrics.sharpness:Sharpness",
    }
)
"""The built-in metrics. A further one is a further line here and a module."""


class Metric(Protocol):
    """What a metric declares, and how it scores. All but ``version`` can be read off the class, without loading a model.

    ``version`` changes whenever scores would. ``range`` is the lowest and highest value that it can take.
    """

    name: str
    version: str
    higher_is_better: bool
    range: tuple[float, float]
    needs_reference: bool

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Scores uint8 (n, h, w, 3) images against their n prompts: float64 (n,)."""


def names() -> list[str]:
    """The names of the built-in metrics."""
    return list(METRICS)


def get_metric(name: str, encoder: Encoder | None = None, device: str = "auto") -> Metric:
    """Loads a metric. ``encoder`` is the CLIP of those that need one; by default the tiny pool's.

    Raises:
        InputError: there is no such metric, or its model or device is not to be had.
    """
    metric: Metric = metric_class(name)(encoder or Encoder(), device)
    return metric


def metric_class(name: str) -> Any:
    """The class of a metric, for what it declares.

    Raises:
        InputError: there is no such metric.
    """
    if name not in METRICS:
        raise InputError(f"metric {name!r}: there is no such metric{nearest(name, names())}; there are {', '.join(names())}.")
    module, attribute = METRICS[name].split(":")
    return getattr(import_module(module), attribute)


def lower_is_better(name: str, params: Params) -> bool:
    """Whether the labels of a metric are negated on the way in.

    A built-in metric declares its direction; imported ones ignore that, and are higher-is-better unless
    ``import.lower_is_better`` lists them.
    """
    if params.imported is not None:
        return name in params.imported.lower_is_better
    return not metric_class(name).higher_is_better

"""What a metric is, and what it is made with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar

import numpy as np

from catimage.params import Encoder, Weights


class Context:
    """What metrics are made with: the text encoder's CLIP, a device, where weights come from, and
    models that several of them share.

    Args:
        encoder: the CLIP of ``params.encoder``; by default the tiny pool's.
        device: torch's name, or ``auto``.
        weights: places of weights by metric (``label.weights``), where not the metric's own
            default.
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        device: str = "auto",
        weights: Mapping[str, Weights] | None = None,
    ) -> None:
        self.encoder = encoder or Encoder()
        self.device = device
        self.weights = dict(weights or {})
        self._loaded: dict[Hashable, Any] = {}

    def shared(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """What ``load`` returns, which is called once for all metrics of this context."""
        if key not in self._loaded:
            self._loaded[key] = load()
        return self._loaded[key]


class Metric(ABC):
    """What a metric declares, and how it scores. All but ``version`` can be read off the class,
    without loading a model.

    ``range`` is the lowest and highest value that it can take. ``version`` changes whenever scores
    would: of the code, and for a metric with weights of those too. A metric that compares an image
    with its reference says ``needs_reference``, and its :meth:`score` has the reference images as a
    third argument.
    """

    name: ClassVar[str]
    range: ClassVar[tuple[float, float]]
    higher_is_better: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False
    version: str = "1"

    def __init__(self, context: Context | None = None) -> None:
        """Loads its model, where it has one.

        Raises:
            InputError: its weights or device are not to be had.
        """
        self.device = context.device if context else "auto"

    @abstractmethod
    def score(self, images: np.ndarray, prompts: list[str], *more: Any, **none: Any) -> np.ndarray:
        """Scores uint8 (n, h, w, 3) images against their n prompts: float64 (n,). A
        :class:`ReferenceMetric` alone is given ``more``.
        """


class ReferenceMetric(Metric):
    """A metric of an image against its reference: the same prompt and seed by the pool's metric
    reference (BudgetFusion 3.2).
    """

    needs_reference: ClassVar[bool] = True

    @abstractmethod
    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """Scores uint8 (n, h, w, 3) images against references of the same shape: float64 (n,)."""

"""Composites: weighted means of other metrics, which can be used like a metric."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from catimage.errors import InputError
from catimage.params import CompositeParams


class Composite:
    """A weighted mean of the scaled scores of other metrics.

    A score v of a term is scaled to s = (v - low) / (high - low), clipped to [0, 1], and replaced
    by 1 - s if lower is better. ``low`` and ``high`` are the term's ``scale``, by default the range
    that its metric declares. The weights w are divided by their sum. The composite is then the
    arithmetic mean sum(w s) if the kind is ``sum``, and the geometric mean prod(s^w), which is 0 if
    any scaled score is 0, if the kind is ``product``. The composite lies in [0, 1], and higher is
    better.

    Args:
        name: the name of the composite in ``label.composites``.
        params: the definition of the composite.
        class_of: a function that returns the class of a metric, given the name of the metric.

    Raises:
        InputError: a term is not a metric, or its range is unbounded and it has no ``scale``.
    """

    higher_is_better = True
    range = (0.0, 1.0)

    def __init__(self, name: str, params: CompositeParams, class_of: Callable[[str], Any]) -> None:
        self.name, self._params = name, params
        self._classes = {term: class_of(term) for term in params.terms}
        self.needs_reference = any(metric.needs_reference for metric in self._classes.values())
        self._scales = {term: self._scale(term) for term in params.terms}

    def _scale(self, term: str) -> tuple[float, float]:
        low, high = self._params.terms[term].scale or self._classes[term].range
        if not np.isfinite([low, high]).all():
            key = f"label.composites.{self.name}.terms.{term}"
            raise InputError(
                f"params.yaml: {key}: the range of the metric is unbounded. Set 'scale' to the two"
                " scores that count as 0 and 1."
            )
        return float(low), float(high)

    @property
    def terms(self) -> list[str]:
        """The names of the metrics that are combined."""
        return list(self._params.terms)

    def version(self, versions: Mapping[str, str]) -> str:
        """Return a hash of the definition, the scales and the versions of the terms."""
        identity = (
            f"{self._params.model_dump_json()} {self._scales}"
            f" {[versions[term] for term in self._params.terms]}"
        )
        return f"1-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

    def combine(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Combine the scores of the terms, each float64 (n,), into float64 (n,)."""
        terms = self._params.terms
        scaled = np.array([self._scaled(term, np.asarray(values[term], float)) for term in terms])
        weights = np.array([term.weight for term in terms.values()])
        if self._params.kind == "sum":
            return np.asarray(weights @ scaled / weights.sum())
        return np.asarray(np.prod(scaled ** (weights / weights.sum())[:, None], axis=0))

    def _scaled(self, term: str, values: np.ndarray) -> np.ndarray:
        low, high = self._scales[term]
        scaled = np.clip((values - low) / (high - low), 0, 1)
        return scaled if self._classes[term].higher_is_better else 1 - scaled

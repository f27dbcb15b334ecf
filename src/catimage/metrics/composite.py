"""A named weighted sum or product of other metrics, which is then a metric like any other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from catimage.errors import InputError
from catimage.params import CompositeParams


class Composite:
    """Terms scaled to [0, 1], higher is better, and then combined, so that the composite lies in
    [0, 1] too.

    A term's value v becomes s = (v - low) / (high - low), cut off at 0 and 1, and 1 - s where lower
    is better; low and high are the term's ``scale``, by default the range that its metric declares.
    With weights w that add up to W, a ``sum`` is sum(w s) / W and a ``product`` the geometric mean,
    prod(s^w)^(1/W), which is 0 where any term is.

    Raises:
        InputError: a term is no metric, or has an unbounded range and no ``scale``.
    """

    higher_is_better = True
    range = (0.0, 1.0)

    def __init__(self, name: str, params: CompositeParams, declared: Callable[[str], Any]) -> None:
        self.name, self._params = name, params
        self._declared = {term: declared(term) for term in params.terms}
        self.needs_reference = any(metric.needs_reference for metric in self._declared.values())
        self._scales = {term: self._scale(term) for term in params.terms}

    def _scale(self, term: str) -> tuple[float, float]:
        low, high = self._params.terms[term].scale or self._declared[term].range
        if not np.isfinite([low, high]).all():
            key = f"label.composites.{self.name}.terms.{term}"
            raise InputError(
                f"params.yaml: {key}: the metric's range is unbounded; say which values count as 0"
                " and 1 with 'scale'."
            )
        return float(low), float(high)

    @property
    def terms(self) -> list[str]:
        """The metrics that it is made of."""
        return list(self._params.terms)

    def version(self, versions: Mapping[str, str]) -> str:
        """Changes with its definition, its scales and the versions of its terms."""
        said = (
            f"{self._params.model_dump_json()} {self._scales}"
            f" {[versions[term] for term in self._params.terms]}"
        )
        return f"1-{hashlib.sha256(said.encode()).hexdigest()[:12]}"

    def combine(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores of the terms, each float64 (n,), to those of the composite."""
        terms = self._params.terms
        scaled = np.array([self._scaled(term, np.asarray(values[term], float)) for term in terms])
        weights = np.array([term.weight for term in terms.values()])
        if self._params.kind == "sum":
            return np.asarray(weights @ scaled / weights.sum())
        return np.asarray(np.prod(scaled ** (weights / weights.sum())[:, None], axis=0))

    def _scaled(self, term: str, values: np.ndarray) -> np.ndarray:
        low, high = self._scales[term]
        scaled = np.clip((values - low) / (high - low), 0, 1)
        return scaled if self._declared[term].higher_is_better else 1 - scaled

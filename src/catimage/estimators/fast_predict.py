"""Predictions without the overhead of scikit-learn per call.

The results are those of ``predict``, rounded to single precision. Calibration, evaluation and the
service predict by this one function, for any number of prompts. The products of matrices, in the
text encoder and in the kernel, are rounded differently in batches of different sizes: the
prediction of a prompt differs by up to about 1e-5 standard deviations between batches. Equal
predictions of two candidates are equal in any batch, because equal coefficients are multiplied
once, and calibrated lambdas have a distance from those at which a prompt changes its candidate
(:func:`~catimage.routing.curve.lambda_of_point`).

A ridge regression is evaluated without its
features: TF-IDF features are not stored in a sparse matrix, and the normalisation of kernel
features (:class:`~catimage.estimators.features.feature_union.GaussianKernelFeatures`), a square
matrix, is multiplied by the coefficients once instead of by the kernel in every call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.common.distinct_rows import distinct_rows
from catimage.estimators.features.fast_transform import (
    fast_transform,
    supports_tfidf,
    tfidf_terms,
)
from catimage.estimators.features.feature_union import FastFeatureUnion, GaussianKernelFeatures
from catimage.estimators.linear import RidgeRegressor

_CHUNK = 256
"""Number of prompts that are predicted together, which bounds the memory."""
_LOCK = Lock()


def fast_predict(pipeline: Pipeline, prompts: Any) -> Any:
    """Return ``pipeline.predict(prompts)`` of a fitted pipeline, rounded to single precision."""
    return np.asarray(_predict(pipeline, prompts), np.float32).astype(np.float64)


def _predict(pipeline: Pipeline, prompts: Any) -> Any:
    if type(pipeline) is not Pipeline:
        return pipeline.predict(prompts)
    if len(prompts) and (model := _linear_model(pipeline)) is not None:
        return model.predict(prompts)
    x = prompts
    for _, transformer in pipeline.steps[:-1]:
        x = fast_transform(transformer, x)
    return pipeline.steps[-1][1].predict(x)


Term = Callable[[Sequence[str]], Floats]
"""A function from prompts to their part of the predictions, (n_prompts, n_candidates)."""


@dataclass(frozen=True)
class _LinearModel:
    """A fitted ridge regression on features of prompts.

    Attributes:
        terms: one function per block of features.
        intercept: the intercepts, (n_candidates,).
        fitted: the fitted arrays from which the terms were computed.
    """

    terms: Sequence[Term]
    intercept: Floats
    fitted: Sequence[Any]

    def predict(self, prompts: Sequence[str]) -> Floats:
        """Return the predictions, (n_prompts, n_candidates)."""
        predicted = np.tile(self.intercept, (len(prompts), 1))
        for start in range(0, len(prompts), _CHUNK):
            part = slice(start, start + _CHUNK)
            for term in self.terms:
                predicted[part] += term(prompts[part])
        return predicted


_MODELS: WeakKeyDictionary[Pipeline, _LinearModel] = WeakKeyDictionary()


def _linear_model(pipeline: Pipeline) -> _LinearModel | None:
    """Return the model of a pipeline; None if it is not a fitted ridge regression on features that
    are evaluated here. A pipeline that is fitted again has a new model.
    """
    regressor = pipeline.steps[-1][1]
    if type(regressor) is not RidgeRegressor or len(pipeline.steps) != 2:
        return None
    blocks = _blocks(pipeline.steps[0][1])
    if blocks is None or getattr(regressor, "flat_", True):
        return None
    fitted = [regressor.coef_, *(_fitted(step) for step, _ in blocks)]
    with _LOCK:
        model = _MODELS.get(pipeline)
    if model is None or any(a is not b for a, b in zip(fitted, model.fitted, strict=True)):
        intercept = np.asarray(regressor.intercept_, np.float64)
        model = _LinearModel(_terms(blocks, regressor.coef_), intercept, fitted)
        with _LOCK:
            _MODELS[pipeline] = model
    return model


def _blocks(features: Any) -> list[tuple[Any, float]] | None:
    """Return the fitted transformers of a feature step with their weights; None if one of them is
    not evaluated here.
    """
    if type(features) is FastFeatureUnion:
        weights = features.transformer_weights or {}
        blocks = [(step, weights.get(name, 1.0)) for name, step in features.transformer_list]
    else:
        blocks = [(features, 1.0)]
    return blocks if all(_fitted(step) is not None for step, _ in blocks) else None


def _fitted(step: Any) -> Any:
    """Return an array that changes when a transformer is fitted again; None if the transformer is
    not fitted, or not evaluated here.
    """
    if type(step) is TfidfVectorizer and supports_tfidf(step):
        return step.idf_
    return getattr(_kernel(step), "normalization_", None)


def _kernel(step: Any) -> GaussianKernelFeatures | None:
    """Return the last step of a transformer to features of a Gaussian kernel; otherwise None."""
    kernel = step.steps[-1][1] if type(step) is Pipeline else None
    return kernel if type(kernel) is GaussianKernelFeatures else None


def _terms(blocks: Sequence[tuple[Any, float]], coef: Floats) -> list[Term]:
    """Return the functions of the blocks of features.

    Args:
        blocks: transformers and weights.
        coef: the coefficients of all features, (n_candidates, n_features).
    """
    terms, start = list[Term](), 0
    for step, weight in blocks:
        kernel = _kernel(step)
        width = len(step.vocabulary_) if kernel is None else len(kernel.normalization_)
        part = weight * coef[:, start : start + width].T.astype(np.float64)
        terms.append(_tfidf_term(step, part) if kernel is None else _kernel_term(step, part))
        start += width
    return terms


def _tfidf_term(vectorizer: TfidfVectorizer, coef: Floats) -> Term:
    coef = np.ascontiguousarray(coef)

    def predict(prompts: Sequence[str]) -> Floats:
        values, columns, ends = tfidf_terms(vectorizer, prompts)
        found, sums = np.diff(ends) > 0, np.zeros((len(prompts), coef.shape[1]))
        if found.any():  # the sum of a prompt does not depend on the other prompts
            products = values[:, None] * coef[columns]
            sums[found] = np.add.reduceat(products, ends[:-1][found], axis=0)
        return sums

    return predict


def _kernel_term(step: Pipeline, coef: Floats) -> Term:
    kernel = step.steps[-1][1]
    distinct, positions = distinct_rows(np.ascontiguousarray(coef.T))
    weights = kernel.normalization_.T.astype(np.float64) @ distinct.T

    def predict(prompts: Sequence[str]) -> Floats:
        x = prompts
        for _, transformer in step.steps[:-1]:
            x = fast_transform(transformer, x)
        return np.asarray((kernel.kernel_values(x) @ weights)[:, positions])

    return predict

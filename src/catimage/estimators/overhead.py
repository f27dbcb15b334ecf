"""The cost of a routing decision (CATImage 5.1: "a negligible inference cost"), in the units of the
candidates' costs and in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.pipeline import FeatureUnion, Pipeline

from catimage.common.arrays import Floats
from catimage.estimators.differences import DifferencesRegressor
from catimage.estimators.extended import ExtendedRegressor
from catimage.estimators.features.steps import text_encoders
from catimage.estimators.stacking import StackRegressor
from catimage.routing.policy import choose


def decision_tflops(estimator: Pipeline, prompt: str) -> dict[str, float]:
    """Return the TFLOPs of one decision; a multiply-add counts as two operations.

    Args:
        estimator: fitted.
        prompt: of typical length.

    Returns:
        ``text_encoder``: all text encoders, within a stack too, and a fine-tuned encoder with its
        head, counted by torch (0 for TF-IDF); ``estimator``: the matrix products of features and
        regressors, without sums, activations and dictionary look-ups.
    """
    from torch.utils.flop_counter import FlopCounterMode

    x = np.array([prompt], object)
    estimator.predict(x)  # load the text encoder, which is not part of a decision
    with _empty_encoder_caches(estimator), FlopCounterMode(display=False) as counter:
        estimator.predict(x)
    return {
        "text_encoder": counter.get_total_flops() / 1e12,
        "estimator": 2 * multiply_adds(estimator, x) / 1e12,
    }


def decision_ms(
    estimator: Pipeline, prompts: list[str], costs: Floats, limit: int = 30
) -> dict[str, float]:
    """Return the median milliseconds of one decision on this machine, in this process.

    Each prompt is decided on its own, as in a server. A first decision, which loads the text
    encoder, is not counted.

    Args:
        estimator: fitted.
        prompts: at least one; ``limit`` of them are timed.
        costs: the cost of each candidate, (n_candidates,).
        limit: on the number of prompts.

    Returns:
        ``with_text``: from the prompt to the candidate; ``without_text``: from the features to the
        candidate. A stack reads prompts, so its two figures are equal.
    """
    seconds = []
    for prompt in [prompts[0], *prompts[:limit]]:
        with _empty_encoder_caches(estimator):
            start = perf_counter()
            x = estimator[:-1].transform(np.array([prompt], object))
            transformed = perf_counter()
            choose(np.asarray(estimator[-1].predict(x), float), costs, 0.0)
            seconds.append((perf_counter() - start, perf_counter() - transformed))
    with_text, without_text = np.median(seconds[1:], axis=0) * 1000
    return {"with_text": float(with_text), "without_text": float(without_text)}


def multiply_adds(part: Any, x: Any) -> int:
    """Return the multiply-adds of the matrix products in an estimator or a part of it, without text
    encoders.

    A part has a method ``multiply_adds``, is linear (``coef_``), or contains other parts; any other
    part counts as 0.

    Args:
        part: fitted.
        x: the input of ``part``.
    """
    if isinstance(part, Pipeline):
        return multiply_adds(part[0], x) + multiply_adds(part[-1], part[:-1].transform(x))
    if isinstance(part, FeatureUnion):
        return sum(multiply_adds(step, x) for _, step in part.transformer_list)
    if isinstance(part, StackRegressor):
        return sum(multiply_adds(member, x) for member in part.members_)
    if isinstance(part, DifferencesRegressor):
        return multiply_adds(part.regressor_, x)
    if isinstance(part, ExtendedRegressor):
        return multiply_adds(part.base_, x) + part.multiply_adds(x)
    if hasattr(part, "multiply_adds"):
        return int(part.multiply_adds(x))
    if hasattr(part, "coef_"):
        n_outputs = np.atleast_2d(part.coef_).shape[0]
        return int(n_outputs * (x.nnz if hasattr(x, "nnz") else np.size(x)))
    return 0


@contextmanager
def _empty_encoder_caches(estimator: Pipeline) -> Iterator[None]:
    """Empty the caches of the text encoders, so that they encode every prompt as a new one."""
    from catimage.encoders.cache import cached_encoder

    with ExitStack() as stack:
        for encoder in text_encoders(estimator):
            stack.enter_context(cached_encoder(encoder).temporarily_cleared())
        yield

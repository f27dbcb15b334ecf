"""The cost of a routing decision in TFLOPs and in milliseconds. The CATImage paper (section 5.1)
calls this cost negligible.
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
from catimage.estimators.reordered import ReorderedRegressor
from catimage.estimators.stacking import StackRegressor
from catimage.routing.policy import choose


def decision_tflops(estimator: Pipeline, prompt: str) -> dict[str, float]:
    """Return the TFLOPs of one routing decision; a multiply-add counts as two operations.

    Args:
        estimator: a fitted estimator.
        prompt: a prompt of typical length.

    Returns:
        ``text_encoder``: the TFLOPs of all text encoders, including those of the members of a stack
        and a fine-tuned encoder with its head, counted by torch (0 for TF-IDF). ``estimator``: the
        TFLOPs of the matrix products of feature steps and regressors; sums, activations and
        dictionary look-ups are not counted.
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
    """Return the median time of one routing decision on this machine, in milliseconds.

    Each prompt is routed in a separate call, as in a server. The first decision, which loads the
    text encoder, is not counted.

    Args:
        estimator: a fitted estimator.
        prompts: at least one prompt; the first ``limit`` prompts are timed.
        costs: the cost of each candidate, (n_candidates,).
        limit: the maximum number of timed prompts.

    Returns:
        ``with_text``: the time from the prompt to the selected candidate; ``without_text``: the
        time from the features to the selected candidate. The features of a stack are the prompts,
        so the two times of a stack are almost equal.
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
    """Return the number of multiply-adds of the matrix products in an estimator or in a part of it,
    without those of text encoders.

    A part is counted if it has a method ``multiply_adds``, is linear (``coef_``), or contains such
    parts; any other part counts as 0.

    Args:
        part: a fitted estimator, transformer or regressor.
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
    if isinstance(part, ReorderedRegressor):
        return multiply_adds(part.base, x)
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
    """Empty the caches of the text encoders inside the ``with`` block, so that prompts are encoded
    again.
    """
    from catimage.encoders.cache import cached_encoder

    with ExitStack() as stack:
        for encoder in text_encoders(estimator):
            stack.enter_context(cached_encoder(encoder).temporarily_cleared())
        yield

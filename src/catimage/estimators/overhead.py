"""What a decision itself costs (CATImage 5.1: "a negligible inference cost"), counted as the
candidates' costs are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.estimators.differences import DifferencesRegressor
from catimage.estimators.extended import ExtendedRegressor
from catimage.estimators.features.feature_union import JoinedFeatures
from catimage.estimators.features.steps import encoders_of
from catimage.estimators.stacking import StackRegressor
from catimage.routing.policy import choose


def decision_tflops(estimator: Pipeline, prompt: str) -> dict[str, float]:
    """TFLOPs (a multiply-add is two) of one decision: those of networks on the text, counted by
    torch, and all others.

    ``text_encoder`` has every text encoder that runs, also within a stack, and a fine-tuned one
    with its head. ``estimator`` has the dense products of features and regressors; sums and
    activations are left out.

    Args:
        estimator: fitted; ``prompt`` is one of typical length. TF-IDF has no text encoder, and its
            lookups count as nothing.
    """
    from torch.utils.flop_counter import FlopCounterMode

    x = np.array([prompt], object)
    estimator.predict(x)  # whatever is loaded at first is no part of a decision
    with _nothing_remembered(estimator), FlopCounterMode(display=False) as counter:
        estimator.predict(x)
    return {
        "text_encoder": counter.get_total_flops() / 1e12,
        "estimator": 2 * multiply_adds(estimator, x) / 1e12,
    }


def decision_ms(
    estimator: Pipeline, prompts: list[str], cost: Floats, most: int = 30
) -> dict[str, float]:
    """Median milliseconds of one decision: ``with_text``, from the prompt on, and ``without_text``,
    from its features on.

    Each prompt is decided on by itself, as a server does, in this process and on this machine; the
    first one, which loads the encoder, is not counted. A stack reads prompts itself, so that all of
    its time is in both.

    Args:
        estimator: fitted; ``prompts`` are as many as are timed, ``most`` at most.
        cost: (n_candidates,), for equation 3.
    """
    seconds = []
    for prompt in [prompts[0], *prompts[:most]]:
        with _nothing_remembered(estimator):
            begun = perf_counter()
            x = estimator[:-1].transform(np.array([prompt], object))
            embedded = perf_counter()
            choose(np.asarray(estimator[-1].predict(x), float), cost, 0.0)
            seconds.append((perf_counter() - begun, perf_counter() - embedded))
    with_text, without_text = np.median(seconds[1:], axis=0) * 1000
    return {"with_text": float(with_text), "without_text": float(without_text)}


def multiply_adds(part: Any, x: Any) -> int:
    """Multiply-adds of the dense products of an estimator or a part of it, fitted, on ``x``;
    without those of text encoders.

    A regressor says so itself (``multiply_adds``), or is linear (``coef_``), or holds others; other
    steps count as nothing.
    """
    if isinstance(part, Pipeline):
        return multiply_adds(part[0], x) + multiply_adds(part[-1], part[:-1].transform(x))
    if isinstance(part, StackRegressor):
        return sum(multiply_adds(member, x) for member in part.members_)
    if isinstance(part, DifferencesRegressor):
        return multiply_adds(part.regressor_, x)
    if isinstance(part, ExtendedRegressor):
        return multiply_adds(part.base_, x) + part.multiply_adds(x)
    if isinstance(part, JoinedFeatures):
        return sum(multiply_adds(step, x) for step in part.steps_)
    if hasattr(part, "multiply_adds"):
        return int(part.multiply_adds(x))
    if hasattr(part, "coef_"):
        return int(
            np.atleast_2d(part.coef_).shape[0] * (x.nnz if hasattr(x, "nnz") else np.size(x))
        )
    return 0


@contextmanager
def _nothing_remembered(estimator: Pipeline) -> Iterator[None]:
    """Encoders encode every prompt, as they do with one that they have never seen."""
    from catimage.encoders.cache import cached_encoder

    with ExitStack() as stack:
        for spec in encoders_of(estimator):
            stack.enter_context(cached_encoder(spec).temporarily_cleared())
        yield

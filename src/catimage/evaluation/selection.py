"""Selection rates (CATImage, appendix H): the share of the prompts that each candidate receives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates
from catimage.evaluation.operating_point import OperatingPoint
from catimage.routing.curve import deferral_curve, safe_lambda
from catimage.routing.policy import choose

MAX_LAMBDAS = 120
"""Values of lambda in the table."""


def selection_table(predicted: Floats, candidates: Candidates) -> pd.DataFrame:
    """Return columns ``lambda, candidate, share`` for the lambdas at which a choice changes.

    Args:
        predicted: (n_prompts, n_candidates).
        candidates: the columns of ``predicted``.
    """
    curve = deferral_curve(predicted, candidates.costs).thinned(MAX_LAMBDAS)
    lambdas = [safe_lambda(curve, i) for i in range(len(curve))]
    index = pd.MultiIndex.from_product([lambdas, candidates.names], names=["lambda", "candidate"])
    shares = np.concatenate([selection_rates(predicted, candidates.costs, lam) for lam in lambdas])
    return pd.DataFrame({"share": shares}, index=index).reset_index()


def selection_rates(predicted: Floats, costs: Floats, lam: float) -> Floats:
    """Return the share of the prompts that each candidate receives at one lambda.

    Args:
        predicted: (n_prompts, n_candidates).
        costs: (n_candidates,).
        lam: lambda of equation 3.

    Returns:
        (n_candidates,), sum 1.
    """
    counts = np.bincount(choose(predicted, costs, lam), minlength=len(costs))
    shares: Floats = counts / len(predicted)
    return shares


def calibrated_rates(point: OperatingPoint, costs: Floats) -> list[float]:
    """Return the share of the test prompts that each candidate receives from the calibrated router.

    For a randomized rule it is an expectation over the draws.
    """
    choices = point.rule.choices(point.scores, costs)
    weights = np.repeat(point.rule.share, choices.shape[1])
    totals = np.bincount(choices.ravel(), weights, len(costs))
    return [float(total) / choices.shape[1] for total in totals]


def selection_document(
    table: pd.DataFrame, point: OperatingPoint, candidates: Candidates
) -> dict[str, Any]:
    """Return ``selection`` of ``metrics.json``.

    ``rows`` are ``[lambda, share of each candidate]``; ``calibrated`` has the shares of the
    calibrated router.

    Args:
        table: of :func:`selection_table`.
        point: the calibrated router on the test prompts.
        candidates: the columns.
    """
    shares = table.pivot(index="lambda", columns="candidate", values="share")[candidates.names]
    rows = zip(shares.index, shares.to_numpy(), strict=True)
    return {
        "candidates": candidates.names,
        "rows": [[float(lam), *map(float, row)] for lam, row in rows],
        "calibrated": calibrated_rates(point, candidates.costs),
    }

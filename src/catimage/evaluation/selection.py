"""Selection rates: the share of the prompts that each candidate receives.

See appendix H of the CATImage paper. *Equation 3* is that of the same paper: it chooses the
candidate with the highest quality minus lambda times cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates
from catimage.evaluation.operating_point import OperatingPoint
from catimage.routing.curve import deferral_curve, lambda_of_point
from catimage.routing.policy import choose

MAX_LAMBDAS = 120
"""Maximum number of values of lambda in the table."""


def selection_table(predicted: Floats, candidates: Candidates) -> pd.DataFrame:
    """Return a table of the selection rates for at most 120 lambdas at which a choice changes.

    Args:
        predicted: predicted qualities, (n_prompts, n_candidates).
        candidates: the candidates, in the order of the columns of ``predicted``.

    Returns:
        A table with the columns ``lambda``, ``candidate`` and ``share``.
    """
    curve = deferral_curve(predicted, candidates.costs).thinned(MAX_LAMBDAS)
    lambdas = [lambda_of_point(curve, i) for i in range(len(curve))]
    index = pd.MultiIndex.from_product([lambdas, candidates.names], names=["lambda", "candidate"])
    shares = np.concatenate([selection_rates(predicted, candidates.costs, lam) for lam in lambdas])
    return pd.DataFrame({"share": shares}, index=index).reset_index()


def selection_rates(predicted: Floats, costs: Floats, lam: float) -> Floats:
    """Return the share of the prompts that each candidate receives at one lambda.

    Args:
        predicted: predicted qualities, (n_prompts, n_candidates).
        costs: the candidates' costs, (n_candidates,).
        lam: the lambda of equation 3.

    Returns:
        The shares, (n_candidates,), whose sum is 1.
    """
    counts = np.bincount(choose(predicted, costs, lam), minlength=len(costs))
    shares: Floats = counts / len(predicted)
    return shares


def calibrated_rates(point: OperatingPoint, costs: Floats) -> list[float]:
    """Return the share of the test prompts that each candidate receives from the calibrated router.

    For a randomized rule, the shares are expectations over its random draws.
    """
    chosen_by_part = point.rule.choose_by_part(point.scores, costs)
    weights = np.repeat(point.rule.share, chosen_by_part.shape[1])
    totals = np.bincount(chosen_by_part.ravel(), weights, len(costs))
    return [float(total) / chosen_by_part.shape[1] for total in totals]


def selection_document(
    table: pd.DataFrame, point: OperatingPoint, candidates: Candidates
) -> dict[str, Any]:
    """Return the key ``selection`` of ``metrics.json``.

    ``rows`` has rows ``[lambda, share of the first candidate, ...]``. ``calibrated`` has the shares
    of the calibrated router.

    Args:
        table: the table of :func:`selection_table`.
        point: the calibrated router on the test prompts.
        candidates: the candidates of the table and the router.
    """
    shares = table.pivot(index="lambda", columns="candidate", values="share")[candidates.names]
    rows = zip(shares.index, shares.to_numpy(), strict=True)
    return {
        "candidates": candidates.names,
        "rows": [[float(lam), *map(float, row)] for lam, row in rows],
        "calibrated": calibrated_rates(point, candidates.costs),
    }

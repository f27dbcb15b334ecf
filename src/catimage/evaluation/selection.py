"""Selection rates (CATImage, appendix H): how many of the prompts go to each candidate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.evaluation.budget import Operating
from catimage.routing.curve import deferral_curve, safe_lambda
from catimage.routing.policy import choose

LAMBDAS = 120


def selection_table(predicted: Floats, cost: Floats, candidates: list[str]) -> pd.DataFrame:
    """Columns ``lambda, candidate, share``, for every lambda that changes a choice, thinned.

    Args:
        predicted: (n_prompts, n_candidates); ``cost`` (n_candidates,).
    """
    curve = deferral_curve(predicted, cost).thinned(LAMBDAS)
    lambdas = [safe_lambda(curve, i) for i in range(len(curve))]
    index = pd.MultiIndex.from_product([lambdas, candidates], names=["lambda", "candidate"])
    return pd.DataFrame(
        {"share": np.concatenate([rates(predicted, cost, lam) for lam in lambdas])}, index=index
    ).reset_index()


def rates(predicted: Floats, cost: Floats, lam: float) -> Floats:
    """The share of the prompts that goes to each candidate at one lambda: (n_candidates,)."""
    shares: Floats = np.bincount(choose(predicted, cost, lam), minlength=len(cost)) / len(predicted)
    return shares


def calibrated_rates(router: Operating, cost: Floats) -> list[float]:
    """The share of the test prompts that the calibrated router sends to each candidate, an
    expectation where rules are mixed.
    """
    choices = router.rule.choices(router.scores, cost)
    weights = np.repeat(router.rule.share, choices.shape[1])
    return [float(w) / choices.shape[1] for w in np.bincount(choices.ravel(), weights, len(cost))]


def selection_document(selection: pd.DataFrame, candidates: list[str]) -> dict[str, Any]:
    """``selection`` of ``metrics.json``: ``candidates``, and rows ``[lambda, share of each]``."""
    shares = selection.pivot(index="lambda", columns="candidate", values="share")[candidates]
    rows = zip(shares.index, shares.to_numpy(), strict=True)
    return {"candidates": candidates, "rows": [[float(lam), *map(float, row)] for lam, row in rows]}

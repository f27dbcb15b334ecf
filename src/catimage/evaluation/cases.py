"""Successes and failures (CATImage 5.3, figure 4): where the router's choice differs from a fixed
candidate at the same mean cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import Pool
from catimage.evaluation.samples import Cell, Sample, data_uri

EACH = 3
"""Successes shown, and failures."""


def cases_document(
    picked: Ints,
    lam: float,
    predicted: Floats,
    labels: Floats,
    pool: Pool,
    name: str,
    prompt_ids: list[str],
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """``cases`` of ``metrics.json``: the router at the cost of the fixed candidate ``name``, prompt
    by prompt.

    ``differs``, ``better`` and ``worse`` are shares of the test prompts; ``successes`` and
    ``failures`` name the prompts that gain and lose most, whose ``predicted_gain`` is what the
    router expected. They are picked by their labels, so that luck of the seeds is among the
    reasons.

    Args:
        picked: the candidate that each test prompt gets from the router, (n_test,), and ``lam`` the
            largest lambda of its rule.
        predicted: the router's predictions (n_test, n_candidates); ``labels`` likewise.
        prompt_ids: of the test prompts.
    """
    fixed, every = pool.candidates.index(name), np.arange(len(labels))
    gain, expected = (values[every, picked] - values[:, fixed] for values in (labels, predicted))
    order = np.argsort(gain, kind="stable")

    def case(i: int) -> dict[str, Any]:
        return {
            "prompt_id": prompt_ids[i],
            "candidate": pool.candidates[picked[i]],
            "cost": float(pool.cost[picked[i]]),
            "gain": float(gain[i]),
            "predicted_gain": float(expected[i]),
        }

    return {
        "candidate": name,
        "cost": float(pool.cost[fixed]),
        "lambda": lam,
        "mean_cost": float(pool.cost[picked].mean()),
        "gain": float(gain.mean()),
        "interval": bootstrap.interval(gain),
        "differs": float((picked != fixed).mean()),
        "better": float((gain > 0).mean()),
        "worse": float((gain < 0).mean()),
        "successes": [case(i) for i in order[::-1][:EACH].tolist() if gain[i] > 0],
        "failures": [case(i) for i in order[:EACH].tolist() if gain[i] < 0],
    }


def case_samples(
    cases: list[dict[str, Any]],
    fixed: str,
    prompts: dict[str, tuple[int, str]],
    predicted: Floats,
    labels: Floats,
    pool: Pool,
    images: dict[tuple[str, str], bytes],
) -> list[Sample]:
    """The successes or failures for the report: each prompt with the fixed candidate and the routed
    one.

    Args:
        cases: successes or failures; ``fixed`` is the candidate that they were held against.
        prompts: by prompt_id, the row in ``predicted`` and ``labels``, and the prompt.
        images: encoded images by prompt_id and candidate; what is missing is left out.
    """

    def cell(identifier: str, name: str, chosen: bool) -> Cell:
        i, m = prompts[identifier][0], pool.candidates.index(name)
        return Cell(
            name,
            data_uri(images.get((identifier, name))),
            float(predicted[i, m]),
            float(labels[i, m]),
            chosen,
        )

    return [
        Sample(
            prompts[c["prompt_id"]][1],
            [cell(c["prompt_id"], fixed, False), cell(c["prompt_id"], c["candidate"], True)],
        )
        for c in cases
    ]

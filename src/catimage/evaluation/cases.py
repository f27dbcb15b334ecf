"""Successes and failures of the router (CATImage paper, section 5.3 and figure 4).

They are the test prompts with the largest gains and losses compared with a fixed candidate, one
that is used for every prompt, at the same mean cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.samples import Images, PromptResults, Sample

MAX_CASES = 3
"""Maximum number of successes, and of failures."""


def cases_document(
    results: PromptResults, picked: Ints, lam: float, fixed: str, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return the key ``cases`` of ``metrics.json``: router and fixed candidate, prompt by prompt.

    ``differs``, ``better`` and ``worse`` are the shares of the test prompts for which the router
    selects another candidate, gains and loses. ``successes`` and ``failures`` are the prompts with
    the largest gains and losses; ``predicted_gain`` is the gain that the router predicted. These
    prompts are selected by their labels, so part of their gains and losses is noise of the seeds.

    Args:
        results: predictions and labels of the test prompts.
        picked: the position of the candidate that the router selects for each prompt, (n_test,);
            for a randomized rule, one draw with the seed of the evaluation.
        lam: the largest lambda of the router's rule.
        fixed: the name of the fixed candidate.
        bootstrap: resamples of the test prompts.
    """
    column, costs = results.candidates.names.index(fixed), results.candidates.costs
    rows = np.arange(len(picked))
    gain, predicted_gain = (
        values[rows, picked] - values[:, column] for values in (results.labels, results.predicted)
    )
    cases = _cases(results, picked, gain, predicted_gain)
    return {
        "candidate": fixed,
        "cost": float(costs[column]),
        "lambda": lam,
        "mean_cost": float(costs[picked].mean()),
        "gain": float(gain.mean()),
        "interval": bootstrap.interval(gain),
        "differs": float((picked != column).mean()),
        "better": float((gain > 0).mean()),
        "worse": float((gain < 0).mean()),
        "successes": [case for case in cases[::-1][:MAX_CASES] if case["gain"] > 0],
        "failures": [case for case in cases[:MAX_CASES] if case["gain"] < 0],
    }


def _cases(
    results: PromptResults, picked: Ints, gain: Floats, predicted_gain: Floats
) -> list[dict[str, Any]]:
    """Return the prompts with the smallest and the largest gains, in order of ascending gain."""
    names, costs = results.candidates.names, results.candidates.costs
    order = np.argsort(gain, kind="stable").tolist()
    ends = order if len(order) <= 2 * MAX_CASES else order[:MAX_CASES] + order[-MAX_CASES:]
    return [
        {
            "prompt_id": results.ids[i],
            "candidate": names[picked[i]],
            "cost": float(costs[picked[i]]),
            "gain": float(gain[i]),
            "predicted_gain": float(predicted_gain[i]),
        }
        for i in ends
    ]


def case_samples(
    cases: list[dict[str, Any]], fixed: str, results: PromptResults, images: Images
) -> list[Sample]:
    """Return successes or failures for the report.

    Each prompt has two candidates: the fixed one, then the one that the router selects.

    Args:
        cases: the list ``successes`` or ``failures`` of :func:`cases_document`.
        fixed: the name of the fixed candidate.
        results: predictions and labels of the test prompts.
        images: encoded images; those of some candidates may be missing.
    """
    rows = {prompt_id: row for row, prompt_id in enumerate(results.ids)}
    names = results.candidates.names
    return [
        results.sample(
            rows[case["prompt_id"]],
            [names.index(fixed), names.index(case["candidate"])],
            names.index(case["candidate"]),
            images,
        )
        for case in cases
    ]

"""``compare``: the estimators of ``train.estimators`` by k-fold over all prompts of a workspace,
for those who have few prompts.

A prompt is judged by a router all of whose choices (parameters, estimator, lambda, and which
candidate is the best single one) were made without it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates
from catimage.data.missing_labels import best_single_candidate, complete_rows
from catimage.data.schema import (
    CANDIDATES,
    PROMPTS,
    SCORES,
    costs_of,
    labels_of,
    read_table,
    scores_array,
)
from catimage.errors import InputError
from catimage.estimators.build import build_estimator, in_dependency_order
from catimage.estimators.fitting import (
    Split,
    check_finite,
    check_labels,
    fit,
    has_choice,
    out_of_fold,
    selected_parameters,
    settings_named_in_errors,
)
from catimage.estimators.overhead import decision_ms
from catimage.evaluation.comparison import (
    BASELINES,
    Pooled,
    comparison_rows,
    comparison_table,
    found_ratio,
    joined,
    judge_fold,
    sentences,
)
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.summary import table
from catimage.metrics.registry import lower_is_better
from catimage.params import Params
from catimage.routing.curve import deferral_curve
from catimage.stages.train import candidates_of, estimator_context
from catimage.workspace import Workspace, replacing

AUTO = "auto"
"""The row of whichever estimator has the best mean curve quality on the prompts that a fold's
choices may see.
"""

PROMPTS_A_FOLD = 10
"""With all of their labels, at least."""


@dataclass(frozen=True)
class Learned:
    """An estimator of one fold: out-of-fold predictions of the known prompts, those of the judged
    ones, what was chosen, and times.
    """

    held: Floats
    predicted: Floats
    chosen: dict[str, Any]
    seconds: float
    milliseconds: float


def run(workspace: Workspace, params: Params, folds: int = 5) -> dict[str, Any]:
    """Writes ``reports/comparison.json`` and returns it.

    Raises:
        InputError: a table is missing, there are too few prompts with all labels, or an estimator
            is unknown.
    """
    prompts, table_of_scores = (
        read_table(workspace.prompts, PROMPTS, "sample"),
        read_table(workspace.scores, SCORES, "label"),
    )
    priced = read_table(workspace.candidates, CANDIDATES, "generate")
    names, cost = costs_of(priced, params.cost_unit)
    by_seed = scores_array(table_of_scores, params.metric, prompts["prompt_id"].tolist(), names)
    labels = labels_of(
        by_seed,
        lower_is_better(params.metric, params.label, params.imported),
        whole=params.validation.complete_labels,
    )
    some = ~np.isnan(labels).all(axis=1)
    data = prompts["prompt"].to_numpy(object)[some], labels[some]
    check_labels(data[1], names, params.metric)
    _check_folds(folds, len(complete_rows(data[1])))
    document = _compared(
        data, cost, candidates_of(priced, params.cost_unit), workspace, params, folds
    )
    with replacing(workspace.reports / "comparison.json") as fresh:
        fresh.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return document


def _check_folds(folds: int, prompts: int) -> None:
    """Enough ``prompts`` with all of their labels."""
    most = prompts // PROMPTS_A_FOLD
    if most < 2:
        needed = 2 * PROMPTS_A_FOLD
        raise InputError(
            f"scores: {prompts} prompts have all of their labels, and {needed} are needed at least"
            " to compare: score more."
        )
    if not 2 <= folds <= most:
        what = (
            f"there must be 2 at least, and {PROMPTS_A_FOLD} prompts with all of their labels to"
            " each"
        )
        raise InputError(f"--folds {folds}: {what} (so {most} at most).")


def _compared(
    data: Split,
    cost: Floats,
    candidates: Candidates,
    workspace: Workspace,
    params: Params,
    folds: int,
) -> dict[str, Any]:
    texts, labels = data
    pooled: list[dict[str, Pooled]] = []
    learned: list[dict[str, Learned]] = []
    ratios: list[dict[str, float | None]] = []
    chosen, rivals, rival_costs = [], [], []
    for number, (known, held) in enumerate(
        KFold(folds, shuffle=True, random_state=params.train.seed).split(texts)
    ):
        judged = held[complete_rows(labels[held])]
        learned.append(
            _learn(
                (texts[known], labels[known]), texts[judged], candidates, cost, workspace, params
            )
        )
        whole = complete_rows(labels[known])
        seen = labels[known][whole]
        predictions = {name: (one.held[whole], one.predicted) for name, one in learned[-1].items()}
        chosen.append(
            best_curve({name: held_ for name, (held_, _) in predictions.items()}, seen, cost)
        )
        pooled.append(
            judge_fold(seen, labels[judged], cost, predictions | {AUTO: predictions[chosen[-1]]})
        )
        best = best_single_candidate(seen, cost)
        ratios.append(
            {
                name: found_ratio(predicted, labels[judged], cost, best)
                for name, (_, predicted) in predictions.items()
            }
        )
        rivals.append(labels[judged, best])
        rival_costs.append(np.full(len(judged), cost[best]))
        told = ", ".join(f"{name} {one.chosen or ''}".strip() for name, one in learned[-1].items())
        print(f"compare: fold {number + 1} of {folds}: {told}", file=sys.stderr, flush=True)
    rival, rival_cost = np.concatenate(rivals), np.concatenate(rival_costs)
    bootstrap = PairedBootstrap(len(rival), params.evaluate.bootstrap, params.evaluate.seed)
    rows = comparison_rows(joined(pooled), rival, rival_cost, bootstrap)
    return {
        "metric": params.metric,
        "lower_is_better": lower_is_better(params.metric, params.label, params.imported),
        "cost_unit": params.cost_unit,
        "n_prompts": len(rival),
        "folds": folds,
        "best_single": {"quality": float(rival.mean()), "cost": float(rival_cost.mean())},
        "auto": chosen,
        "estimators": [row | _told(row["estimator"], learned, ratios) for row in rows],
    }


def _told(
    name: str, learned: list[dict[str, Learned]], ratios: list[dict[str, float | None]]
) -> dict[str, Any]:
    """What else is known of an estimator: seconds to fit it with its parameters chosen,
    milliseconds a decision, and by fold its parameters and the ``cost_ratio_to_match_best_single``
    of its own curve there.
    """
    if name in (*BASELINES, AUTO):
        return {}
    of = [fold[name] for fold in learned]
    return {
        "fit_seconds": float(np.mean([one.seconds for one in of])),
        "decision_ms": float(np.median([one.milliseconds for one in of])),
        "chosen": [one.chosen for one in of],
        "cost_ratio_to_match_best_single": [fold[name] for fold in ratios],
    }


def _learn(
    data: Split,
    judged: np.ndarray,
    candidates: Candidates,
    cost: Floats,
    workspace: Workspace,
    params: Params,
) -> dict[str, Learned]:
    """Every estimator on one fold: parameters chosen on a part of the known prompts, then fitted on
    all of them.
    """
    folds = max(params.train.folds, 2)
    texts, labels = data
    part, rest = next(KFold(folds, shuffle=True, random_state=params.train.seed + 1).split(texts))
    fitted: dict[str, Pipeline] = {}
    found: dict[str, Learned] = {}
    context = estimator_context(workspace, params, candidates)
    for spec in in_dependency_order(params.train.estimators):
        pipeline, grid = build_estimator(spec, replace(context, members=fitted))
        begun = perf_counter()
        with settings_named_in_errors(spec):
            with_best = (
                fit(pipeline, grid, (texts[part], labels[part]), (texts[rest], labels[rest]))
                if has_choice(grid)
                else pipeline
            )
            estimator = fitted[spec.name] = clone(with_best).fit(texts, labels)
        seconds = perf_counter() - begun
        predicted = np.asarray(estimator.predict(judged), float)
        check_finite(predicted, spec)
        unseen = [
            f"{prompt} now" for prompt in judged[:30]
        ]  # a prompt that was encoded already would cost nothing
        found[spec.name] = Learned(
            out_of_fold(estimator, data, folds, params.train.seed + 2),
            predicted,
            selected_parameters(estimator, grid),
            seconds,
            decision_ms(estimator, unseen, cost)["without_text"],
        )
    return found


def best_curve(held: dict[str, Floats], labels: Floats, cost: Floats) -> str:
    """The estimator with the best mean curve quality; predictions (n, m) by name, labels (n, m),
    cost (m,).
    """
    return max(
        held,
        key=lambda name: deferral_curve(held[name], cost, labels).mean_quality(
            float(cost.min()), float(cost.max())
        ),
    )


def printed(document: dict[str, Any]) -> str:
    """The document as a table and two sentences."""
    header, cells = comparison_table(document["estimators"])
    about = (
        f"{document['metric']}, {document['n_prompts']:,} prompts in {document['folds']} folds;"
        " gains are over the best single candidate"
    )
    negated = " (negated: it is lower-is-better)" if document["lower_is_better"] else ""
    chosen = ", ".join(
        f"{name} in {document['auto'].count(name)}" for name in dict.fromkeys(document["auto"])
    )
    return "\n".join(
        [
            f"{about}{negated}",
            "",
            *table(header, cells),
            "",
            f"auto took {chosen} folds.",
            *sentences(document["estimators"], AUTO),
        ]
    )

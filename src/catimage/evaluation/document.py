"""The complete ``metrics.json``: its core, and the optional parts.

The core needs only labels and predictions. The optional parts need more: images, trained estimators
or the pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from catimage.estimators.overhead import decision_ms, decision_tflops
from catimage.evaluation.cases import cases_document
from catimage.evaluation.evaluate import Evaluation
from catimage.evaluation.image_sets.document import ImageSource, image_sets_document
from catimage.evaluation.operating_point import rule_at
from catimage.evaluation.plateau.document import PlateauInputs, plateau_document
from catimage.evaluation.selection import selection_document
from catimage.evaluation.subsets import subsets_document
from catimage.evaluation.trials.document import trials_and_reason
from catimage.evaluation.uncertainty.document import TrainedSpread, uncertainty_document


@dataclass(frozen=True)
class Artifacts:
    """The inputs of the optional parts of ``metrics.json``.

    Attributes:
        estimators: names and trained estimators of the routed metric; an iterator may load them on
            demand.
        spread: the trained predictive spread of the router's estimator, that is, the standard
            deviations of its errors; None if it was not trained.
        plateau: the inputs of the plateau rule of the BudgetFusion paper. The router is also
            compared with the candidate ``plateau.reference`` in the key ``cases``.
        images: the source of generated and real images.
    """

    estimators: Iterable[tuple[str, Pipeline]]
    spread: TrainedSpread | None
    plateau: PlateauInputs
    images: ImageSource


def evaluation_document(
    evaluation: Evaluation, artifacts: Artifacts, selection: pd.DataFrame
) -> dict[str, Any]:
    """Return the complete ``metrics.json``, whose keys docs/evaluation.md explains.

    Args:
        evaluation: the router, the labels and the predictions.
        artifacts: the inputs of the optional parts.
        selection: the table of :func:`catimage.evaluation.selection.selection_table`.

    Raises:
        InputError: the router's estimator is no longer trained, or the settings of an optional part
            are invalid.
    """
    candidates, point = evaluation.candidates, evaluation.point
    validation = evaluation.validation_predictions, evaluation.routed.validation
    test = point.predicted, evaluation.routed.test
    document = evaluation.core()
    fixed = cases_candidate(artifacts.plateau.reference, document, candidates.names)
    trials, trials_left_out = trials_and_reason(evaluation, artifacts.estimators)
    document |= _decision_cost(evaluation) | {
        "trials": trials,
        "trials_left_out": trials_left_out,
        "uncertainty": uncertainty_document(evaluation, artifacts.spread),
        "plateau": plateau_document(evaluation, artifacts.plateau),
        "subsets": subsets_document(validation, test, candidates, evaluation.bootstrap),
        "selection": selection_document(selection, point, candidates),
        "cases": _cases(evaluation, fixed),
    }
    results, picked = evaluation.results, point.served(candidates.costs)
    settings, images = evaluation.settings, artifacts.images
    return document | {"sets": image_sets_document(results, picked, settings, images, document)}


def _cases(evaluation: Evaluation, fixed: str) -> dict[str, Any]:
    """Compare the candidate ``fixed`` with the router at the same mean cost."""
    candidates = evaluation.candidates
    cost = float(candidates.costs[candidates.names.index(fixed)])
    rule = rule_at(evaluation.router, cost)
    picked = evaluation.point.served(candidates.costs, rule)
    largest = float(rule.lam.max())
    return cases_document(evaluation.results, picked, largest, fixed, evaluation.bootstrap)


def cases_candidate(reference: str | None, document: dict[str, Any], names: list[str]) -> str:
    """Return the name of the candidate that the router is compared with in the key ``cases``.

    It is the pool's reference condition ``reference``, or the best single candidate if there is no
    reference condition among ``names``.
    """
    best: str = document["best_single"]["candidate"]
    return reference if reference is not None and reference in names else best


def _decision_cost(evaluation: Evaluation) -> dict[str, Any]:
    """Return the cost of one decision in TFLOPs and in milliseconds."""
    texts, estimator = evaluation.results.texts, evaluation.router.estimator
    return {
        "decision_tflops": decision_tflops(estimator, max(texts, key=len)),
        "decision_ms": decision_ms(estimator, texts, evaluation.candidates.costs),
    }

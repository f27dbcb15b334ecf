"""Evaluation of a calibrated router on the test split of a dataset."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates, Dataset
from catimage.errors import InputError
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import metrics_document
from catimage.evaluation.operating_point import OperatingPoint, operating_point
from catimage.evaluation.samples import PromptResults
from catimage.evaluation.test_data import (
    LabelledPredictions,
    labelled_predictions,
    router_candidates,
)
from catimage.params import EvaluateParams
from catimage.router import Router


@dataclass(frozen=True)
class Evaluation:
    """The inputs that all parts of ``metrics.json`` share.

    Attributes:
        router: the calibrated router.
        dataset: the train and validation splits, with the candidates of the router.
        test: the test prompts, with scores of every metric.
        metrics: labels and predictions of each trained metric; the first is the metric that the
            router maximizes (the routed metric).
        settings: the section ``evaluate`` of ``params.yaml``.
        external: whether the test prompts come from a separate scores file.
    """

    router: Router
    dataset: Dataset
    test: Dataset
    metrics: list[LabelledPredictions]
    settings: EvaluateParams = field(default_factory=EvaluateParams)
    external: bool = False

    @property
    def candidates(self) -> Candidates:
        """The candidates, in the order of the columns of all labels and predictions."""
        return self.dataset.candidates

    @property
    def routed(self) -> LabelledPredictions:
        """Labels and predictions of the routed metric."""
        return self.metrics[0]

    @cached_property
    def bootstrap(self) -> PairedBootstrap:
        """Resamples of the test prompts that have all labels of the routed metric."""
        return PairedBootstrap(len(self.routed.test), self.settings.bootstrap, self.settings.seed)

    @cached_property
    def point(self) -> OperatingPoint:
        """The router on the test prompts that have all labels of the routed metric."""
        test = replace(self.test, prompts=self.routed.test_prompts)
        return operating_point(self.router, test, self.settings.seed)

    @property
    def validation_predictions(self) -> Floats:
        """Predictions of the router's estimator for the validation prompts, (n_val, n_candidates).

        Raises:
            InputError: the estimator is no longer trained.
        """
        name, predictions = self.router.estimator_name, self.routed.predictions
        if name not in predictions:
            raise InputError(
                f"models/router: its estimator {name!r} is no longer trained (trained estimators:"
                f" {', '.join(predictions)}). Run 'catimage calibrate' again."
            )
        return predictions[name][0]

    @cached_property
    def results(self) -> PromptResults:
        """The test prompts with the router's predictions and the labels of the routed metric."""
        prompts = self.routed.test_prompts
        return PromptResults(
            prompts["prompt_id"].tolist(),
            prompts["prompt"].tolist(),
            self.point.predicted,
            self.routed.test,
            self.candidates,
        )

    def core(self) -> dict[str, Any]:
        """Return the part of ``metrics.json`` that needs only labels and predictions."""
        return metrics_document(
            self.metrics,
            self.candidates,
            self.point,
            self.bootstrap,
            self.router.match_confidence,
        )


def evaluate(
    router: Router, dataset: Dataset, settings: EvaluateParams | None = None
) -> dict[str, Any]:
    """Evaluate a router on the test split of a dataset, without a workspace.

    Args:
        router: a calibrated router.
        dataset: prompts of the splits ``train``, ``val`` and ``test`` with scores of the router's
            metric for the router's candidates.
        settings: the section ``evaluate`` of ``params.yaml``, of which the number of resamples and
            the seed of the bootstrap are used; its defaults if omitted.

    Returns:
        The core of ``reports/metrics.json``, see docs/evaluation.md: the keys ``metric``,
        ``cost_unit``, ``n_test``, ``candidates``, ``best_single``, ``oracle_quality``, ``budget``,
        ``methods`` (``fixed``, ``mix``, ``oracle`` and the router's estimator), ``by_metric``.

    Raises:
        InputError: the dataset lacks a candidate of the router, a split is empty, or a split has no
            prompt with a label for every candidate.

    Example:
        >>> from catimage import Dataset, Router, evaluate  # doctest: +SKIP
        >>> document = evaluate(Router.load(folder), dataset)  # doctest: +SKIP
        >>> document["budget"]["realised_quality"]  # doctest: +SKIP
        0.31
    """
    missing = [name for name in router.candidates if name not in dataset.candidates.names]
    if missing:
        raise InputError(
            f"{dataset.paths.candidates}: the router's candidates {', '.join(missing)} are missing."
            " Add their costs and scores, or calibrate a router for the candidates of the dataset."
        )
    dataset = dataset.with_candidates(router_candidates(router, dataset.candidates))
    test = dataset.split("test")
    data = labelled_predictions(
        router.metric, dataset, test, [(router.estimator_name, router.estimator)]
    )
    return Evaluation(router, dataset, test, [data], settings or EvaluateParams()).core()

"""The key ``sets`` of ``metrics.json``: set metrics of fixed and routed sets of images.

A set has all images of every test prompt. In a *fixed set*, they are of one candidate; in a *routed
set*, the router selects the candidate of each prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Candidates
from catimage.data.shards.images import complete_prompts
from catimage.data.shards.manifest import read_manifest
from catimage.evaluation.image_sets.features import PromptImages
from catimage.evaluation.image_sets.jackknife import SetFeatures, SetStatistic, value_and_error
from catimage.evaluation.samples import PromptResults
from catimage.metrics.metric import MetricContext
from catimage.metrics.sets.references import scenes_of
from catimage.metrics.sets.registry import SetMetric, set_metric
from catimage.params import EvaluateParams
from catimage.routing.policy import choose

MIN_PROMPTS = 4
"""Minimum number of prompts of a set."""
RENDERED = "images of the same prompts by the renderer of scenes"
"""Description of the real images if no folder of real images is set."""


@dataclass(frozen=True)
class ImageSource:
    """The locations of generated and real images, and the settings of the networks.

    Attributes:
        folder: the folder of the image shards; None if the test prompts have no images.
        root: the folder that ``evaluate.reference_images`` is relative to.
        context: the encoder, the device and the weights of the networks that compute features.
    """

    folder: Path | None
    root: Path
    context: MetricContext


def image_sets_document(
    results: PromptResults,
    picked: Ints,
    settings: EvaluateParams,
    source: ImageSource,
    document: dict[str, Any],
) -> dict[str, Any] | None:
    """Return the key ``sets`` of ``metrics.json``; None if ``evaluate.set_metrics`` is empty.

    Args:
        results: the test prompts with the router's predictions.
        picked: the position of the candidate that the calibrated router selects for each prompt,
            (n_test,).
        settings: the section ``evaluate`` of ``params.yaml``.
        source: the source of the images.
        document: the core of ``metrics.json``.

    Raises:
        InputError: a metric is unknown, weights are not found, a shard is damaged, or reference
            images cannot be read.
    """
    metrics = [set_metric(name) for name in dict.fromkeys(settings.set_metrics)]
    if not metrics:
        return None
    images, rows = _test_images(results, settings, source)
    if images is None:
        reason = (
            f"{len(rows)} test prompts have images of every candidate, and at least {MIN_PROMPTS}"
            " are needed"
        )
        return _document(len(rows), 0, None, {}, [f"{_names(metrics)}: {reason}."])
    possible, left_out = _possible_metrics(metrics, images)
    routed = RoutedSets(results.candidates, results.predicted[rows], picked[rows])
    documents = {
        metric.name: {"version": version, **routed.document(metric, features, document)}
        for metric, version, features in images.features(possible, settings.seed)
    }
    references = settings.reference_images or RENDERED
    by_metric = {metric.name: documents[metric.name] for metric in possible}
    return _document(len(rows), len(rows) * images.n_images, references, by_metric, left_out)


def _document(
    prompts: int, images: int, references: str | None, metrics: dict[str, Any], left_out: list[str]
) -> dict[str, Any]:
    return {
        "n_prompts": prompts,
        "n_images": images,
        "references": references,
        "metrics": metrics,
        "left_out": left_out,
    }


def _test_images(
    results: PromptResults, settings: EvaluateParams, source: ImageSource
) -> tuple[PromptImages | None, Ints]:
    """Return the images of the prompts that have all images, and the rows of these prompts.

    The images are None if there are fewer than ``MIN_PROMPTS`` such prompts.
    """
    names, folder = results.candidates.names, source.folder or source.root
    entries = read_manifest(folder) if source.folder else []
    n_images, rows = complete_prompts(folder, entries, results.ids, names)
    if len(rows) < MIN_PROMPTS:
        return None, rows
    reference = settings.reference_images
    images = PromptImages(
        folder,
        entries,
        [results.ids[row] for row in rows],
        [results.texts[row] for row in rows],
        names,
        n_images,
        source.root / reference if reference else None,
        source.context,
    )
    return images, rows


def _possible_metrics(
    metrics: list[SetMetric], images: PromptImages
) -> tuple[list[SetMetric], list[str]]:
    """Return the metrics that apply to these prompts, and the reasons why others are left out."""
    scenes = scenes_of(images.texts)
    if not isinstance(scenes, str):
        return metrics, []
    tiny = [metric for metric in metrics if metric.network == "tiny"]
    no_reference = [
        metric
        for metric in metrics
        if metric not in tiny and metric.needs_reference and not images.reference_images
    ]
    reasons = (
        (
            tiny,
            "the tiny pool's CLIP model is trained only on captions of its scenes, and the prompt"
            f" {scenes!r} is not such a caption",
        ),
        (
            no_reference,
            "there are no real images to compare with. Set evaluate.reference_images to a folder of"
            " real images",
        ),
    )
    left_out = [f"{_names(group)}: {reason}." for group, reason in reasons if group]
    return [metric for metric in metrics if metric not in tiny + no_reference], left_out


def _names(metrics: list[SetMetric]) -> str:
    return ", ".join(metric.name for metric in metrics)


@dataclass(frozen=True)
class RoutedSets:
    """The router's choices for the prompts of the sets.

    Attributes:
        candidates: the candidates, in the order of the columns of ``predicted``.
        predicted: the router's predictions, (n_prompts, n_candidates).
        picked: the position of the candidate that the calibrated router selects for each prompt,
            (n_prompts,). For a randomized rule, it is the result of one random draw per prompt.
    """

    candidates: Candidates
    predicted: Floats
    picked: Ints

    def document(
        self, metric: SetMetric, features: SetFeatures, document: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the statistics of one set metric.

        ``budget`` describes the calibrated router's set, compared with the set of the best fixed
        candidate within the budget. ``by_candidate`` has one row per candidate: its fixed set, and
        the routed set whose lambda was selected on the validation split for the candidate's cost.
        A ``gain`` above 0 is an improvement, also for a lower-is-better metric.

        Args:
            metric: the set metric.
            features: the features that the metric is computed from.
            document: the core of ``metrics.json``.
        """
        statistic, budget = SetStatistic(metric, features), document["budget"]
        rows = document["methods"][budget["estimator"]]["by_candidate"]
        return {
            "higher_is_better": metric.higher_is_better,
            "real": statistic.second_real_value(),
            "budget": {
                "lambda": budget["lambda"],
                "cost": float(self.candidates.costs[self.picked].mean()),
                **value_and_error(statistic.replicates(self.picked)),
                "best_fixed": self._best_fixed(statistic, budget["best_fixed"]),
            },
            "by_candidate": [
                self._row(statistic, m, row["selected_lambda"]) for m, row in enumerate(rows)
            ],
        }

    def _best_fixed(
        self, statistic: SetStatistic, best: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        """Compare the calibrated router's set with that of the best fixed candidate."""
        if not best:
            return None
        column = self.candidates.names.index(best["candidate"])
        fixed = np.full(len(self.predicted), column)
        return {
            "candidate": best["candidate"],
            **value_and_error(statistic.replicates(fixed)),
            **statistic.gain(self.picked, fixed),
        }

    def _row(self, statistic: SetStatistic, m: int, lam: float) -> dict[str, Any]:
        """Return the statistics of candidate ``m`` and of the router at the same cost."""
        costs = self.candidates.costs
        fixed, routed = np.full(len(self.predicted), m), choose(self.predicted, costs, lam)
        return {
            "candidate": self.candidates.names[m],
            "cost": float(costs[m]),
            **value_and_error(statistic.replicates(fixed)),
            "selected_lambda": lam,
            "selected_cost": float(costs[routed].mean()),
            "selected": value_and_error(statistic.replicates(routed)),
            **statistic.gain(routed, fixed),
        }

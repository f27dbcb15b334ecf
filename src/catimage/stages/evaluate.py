"""The stage ``evaluate``: evaluate the calibrated router and every estimator on the test split."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

from catimage.common.hashing import file_digest
from catimage.data.dataset import Dataset
from catimage.data.provenance import METRICS, Provenance
from catimage.data.traffic import OUTCOMES, read_traffic
from catimage.estimators.load_estimators import (
    OUT_OF_FOLD,
    load_estimators,
    load_spread,
    read_out_of_fold,
    trained_metrics,
)
from catimage.estimators.spread import SPREAD_FOLDER
from catimage.evaluation.document import Artifacts, evaluation_document
from catimage.evaluation.evaluate import Evaluation
from catimage.evaluation.image_sets.document import ImageSource
from catimage.evaluation.off_policy.document import off_policy_document
from catimage.evaluation.off_policy.text import off_policy_line
from catimage.evaluation.plateau.data import series_estimators
from catimage.evaluation.plateau.document import PlateauInputs
from catimage.evaluation.plots import deferral_table, draw_figures
from catimage.evaluation.report import error_rows, render_report, report_prompts
from catimage.evaluation.reports_folder import write_reports
from catimage.evaluation.router_folder import load_calibrated_router
from catimage.evaluation.selection import selection_table
from catimage.evaluation.summary import full_summary
from catimage.evaluation.test_data import (
    external_test_dataset,
    labelled_predictions,
    router_candidates,
)
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import declaration, lower_is_better_metrics
from catimage.params import Params
from catimage.pool.loading import load_pool
from catimage.pool.step_groups import step_groups
from catimage.router import Router
from catimage.workspace import Workspace


def run(workspace: Workspace, params: Params, scores: Path | None = None) -> None:
    """Write ``metrics.json``, ``plots/``, ``report.html`` and ``off_policy.json``, or none of them
    if an error occurs.

    Args:
        workspace: a workspace with a calibrated router; its ``reports/`` receives the results.
        params: the parameters of the workspace.
        scores: a scores file whose prompts replace the test split of the workspace. The results
            are written to ``reports/other/``, without ``off_policy.json``.

    Raises:
        InputError: there is no router, the router was calibrated for another metric or unit than in
            ``params.yaml`` or for other tables or estimators, the test split is empty, or
            ``scores`` is not a complete scores file of the router's candidates.
    """
    provenance = Provenance(workspace)
    router = load_calibrated_router(workspace, provenance, params.metric, params.cost_unit)
    inputs = provenance.inputs(METRICS)
    evaluation = _read_evaluation(workspace, params, router, scores)
    if scores:
        inputs[str(scores)] = file_digest(scores)
    images = workspace.images if scores is None and workspace.images.exists() else None
    selection = selection_table(evaluation.point.predicted, evaluation.candidates)
    artifacts = _read_artifacts(workspace, params, evaluation, images)
    document = evaluation_document(evaluation, artifacts, selection) | {"inputs": inputs}
    svg_by_name = draw_figures(document, selection, evaluation.results)
    prompts = report_prompts(evaluation.results, evaluation.point, document["cases"], images)
    off_policy = None if scores else _read_off_policy(workspace, evaluation)
    errors = error_rows(evaluation.results)
    page = render_report(document, svg_by_name, errors, prompts, off_policy)
    tables = {"deferral": deferral_table(document), "selection": selection}
    reports = workspace.reports / "other" if scores else workspace.reports
    recorded = None if scores else (off_policy or {"requests": 0}) | {"inputs": inputs}
    write_reports(reports, document, page, tables, svg_by_name, recorded)
    print(
        "\n".join(filter(None, [full_summary(document), off_policy_line(off_policy)])), flush=True
    )


def _read_evaluation(
    workspace: Workspace, params: Params, router: Router, scores: Path | None
) -> Evaluation:
    """Read the tables and predict the validation and test prompts with every estimator."""
    metrics = trained_metrics(workspace, router.metric)
    lower = lower_is_better_metrics(metrics, params.label, params.imported)
    complete = params.validation.complete_labels
    dataset = Dataset.read(workspace, router.cost_unit, lower, complete)
    dataset = dataset.with_candidates(router_candidates(router, dataset.candidates))
    test = external_test_dataset(scores, router, dataset) if scores else dataset.split("test")
    data = []
    for metric in metrics:
        if metric == router.metric or metric in test.metrics:
            scored = test.scored_by(metric) if scores else test
            estimators = load_estimators(workspace, metric, router.candidates)
            data.append(labelled_predictions(metric, dataset, scored, estimators))
    return Evaluation(router, dataset, test, data, params.evaluate, external=scores is not None)


def _read_off_policy(workspace: Workspace, evaluation: Evaluation) -> dict[str, Any] | None:
    """Evaluate the router on logged traffic; return None without logged outcomes."""
    router, dataset = evaluation.router, evaluation.dataset
    outcomes = read_traffic(workspace.outcomes, OUTCOMES)
    seen = dataset.prompts.loc[dataset.prompts["split"].isin(["train", "val"]), "prompt"]
    lower = router.metric in dataset.lower_is_better
    return off_policy_document(router, outcomes, seen.tolist(), lower, evaluation.settings)


def _read_artifacts(
    workspace: Workspace, params: Params, evaluation: Evaluation, images: Path | None
) -> Artifacts:
    """Collect the inputs of the optional parts of ``metrics.json``."""
    metric, names = evaluation.routed.metric, evaluation.candidates.names
    folder = workspace.estimators / metric / evaluation.router.estimator_name
    context = MetricContext(params.encoder, params.label.device, params.label.weights)
    return Artifacts(
        load_estimators(workspace, metric, names, first="knn"),
        load_spread(workspace, folder / SPREAD_FOLDER),
        _plateau_inputs(workspace, params, evaluation, images),
        ImageSource(images, workspace.root, context),
    )


def _plateau_inputs(
    workspace: Workspace, params: Params, evaluation: Evaluation, images: Path | None
) -> PlateauInputs:
    """Read the step groups, metric ranges and out-of-fold predictions for the plateau rule."""
    candidates = evaluation.candidates
    pool = None if params.imported else load_pool(params.pool, workspace.pools)
    generators = dict(zip(candidates.names, candidates.generators, strict=True))
    upper_ends, out_of_fold = {}, {}
    ids = evaluation.dataset.split("train").ids
    for metric, estimator in series_estimators(params.evaluate.plateau).items():
        path = workspace.estimators / metric / estimator / OUT_OF_FOLD
        predictions = read_out_of_fold(path, ids, candidates.names)
        if predictions is not None:
            out_of_fold[metric] = predictions
        if metric in evaluation.dataset.lower_is_better:
            imported = params.imported is not None and params.imported.kind == "scores"
            upper_ends[metric] = inf if imported else declaration(metric, params.label).range[1]
    reference = pool.reference_condition if pool else None
    return PlateauInputs(step_groups(pool, generators), reference, upper_ends, out_of_fold, images)

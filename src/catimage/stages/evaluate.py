"""Stage evaluate: the calibrated router and every estimator on the test split, or on scores from
elsewhere.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table
from catimage.errors import InputError
from catimage.estimators.overhead import decision_ms, decision_tflops
from catimage.evaluation.budget import Operating
from catimage.evaluation.cases import cases_document
from catimage.evaluation.formatting import plateau_lines
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import MetricData, Pool, metrics_document
from catimage.evaluation.operating_point import operating_point, rule_at
from catimage.evaluation.plateau_data import plateau
from catimage.evaluation.plots import deferral_table, figures
from catimage.evaluation.report import fit_table, report
from catimage.evaluation.samples import Sample
from catimage.evaluation.selection import calibrated_rates, selection_document, selection_table
from catimage.evaluation.set_images import sets_document
from catimage.evaluation.sets import sentences
from catimage.evaluation.shown_samples import reference_candidate, shown_prompts
from catimage.evaluation.subsets import subsets_document
from catimage.evaluation.summary import summary
from catimage.evaluation.test_data import Known, judged_on, metric_data, trained_metrics
from catimage.evaluation.trial_data import trials_of
from catimage.evaluation.uncertainty_data import uncertainty_of
from catimage.params import Params
from catimage.router import Router
from catimage.stages.train import candidates_of
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, params: Params, scores: Path | None = None) -> None:
    """Writes ``reports/metrics.json``, ``reports/plots/`` and ``reports/report.html``: all of them,
    or none.

    Args:
        scores: a scores file, all of whose prompts are the test split; otherwise the workspace's
            own test split.

    Raises:
        InputError: no router or estimator is there, the router routes on another metric or unit
            than ``params.yaml`` says, the test split is empty, or ``scores`` is not a whole scores
            file of the router's candidates.
    """
    router = Router.load(workspace.router)
    _check(router, params)
    prompts, table = (
        read_table(workspace.prompts, PROMPTS, "sample"),
        read_table(workspace.scores, SCORES, "label"),
    )
    known = Known(prompts[prompts["split"] != "test"], table)
    judged = judged_on(prompts, table, router, scores, params.validation.complete_labels)
    metrics = [
        m
        for m in trained_metrics(workspace, router.metric)
        if m == router.metric or m in set(judged.scores["metric"])
    ]
    found = [
        metric_data(
            workspace, m, known, judged.of(m) if scores else judged, router.candidates, params
        )
        for m in metrics
    ]
    labels, test = found[0][0].test, found[0][1]
    pool = Pool(router.candidates, router.costs, router.cost_unit, _generators(workspace, router))
    predicted = router.predict(test["prompt"].tolist())
    point = operating_point(router, test, predicted, judged.scores)
    document = _document(workspace, params, router, known, found, pool, point, own=scores is None)
    shown = shown_prompts(
        workspace if scores is None else None, test, point, labels, pool, document["cases"]
    )
    _write(workspace, document, pool, predicted, labels, shown)
    print(
        "\n".join(
            [summary(document), *sentences(document["sets"]), *plateau_lines(document["plateau"])]
        ),
        flush=True,
    )


def _document(
    workspace: Workspace,
    params: Params,
    router: Router,
    known: Known,
    found: list[tuple[MetricData, pd.DataFrame]],
    pool: Pool,
    point: Operating,
    own: bool,
) -> dict[str, Any]:
    """All of ``metrics.json``, which docs/evaluation.md explains key by key.

    Args:
        found: of each trained metric, the routed one first, its data and the rows of the prompts
            that it is judged on.
        point: the router on those of the routed one.
        own: whether the test prompts are the workspace's own.
    """
    evaluate, (routed, test) = params.evaluate, found[0]
    bootstrap = PairedBootstrap(len(test), evaluate.bootstrap, evaluate.seed)
    predicted = point.predicted
    on_val = _known_to(router, routed)
    document = metrics_document(
        routed, [other for other, _ in found[1:]], pool, point, evaluate.bootstrap, evaluate.seed
    )
    reference = reference_candidate(
        workspace, params, document["best_single"]["candidate"], pool.candidates
    )
    rule = rule_at(router, float(pool.cost[pool.candidates.index(reference)]))
    picked, ids = point.served(pool.cost, rule), test["prompt_id"].tolist()
    selection = selection_table(predicted, pool.cost, pool.candidates)
    trials, without = trials_of(workspace, params, known, routed, test, pool)
    document |= {
        "decision_tflops": decision_tflops(router.estimator, max(test["prompt"], key=len)),
        "decision_ms": decision_ms(router.estimator, test["prompt"].tolist(), pool.cost),
        "trials": trials,
        "trials_left_out": without,
        "uncertainty": uncertainty_of(
            workspace, params, router, known, routed, test, (on_val, predicted), pool, bootstrap
        ),
        "plateau": plateau(workspace, params, found, known, pool, own),
        "subsets": subsets_document(
            (on_val, routed.validation), (predicted, routed.test), pool, bootstrap
        ),
        "selection": (
            selection_document(selection, pool.candidates)
            | {"calibrated": calibrated_rates(point, pool.cost)}
        ),
        "cases": cases_document(
            picked, float(rule.lam.max()), predicted, routed.test, pool, reference, ids, bootstrap
        ),
    }
    return document | {"sets": sets_document(workspace, params, own, test, pool, point, document)}


def _check(router: Router, params: Params) -> None:
    for key, routed, wanted in (
        ("metric", router.metric, params.metric),
        ("cost_unit", router.cost_unit, params.cost_unit),
    ):
        if routed != wanted:
            raise InputError(
                f"params.yaml: {key} is {wanted!r}, but models/router was calibrated on {routed!r}:"
                " train and calibrate again."
            )


def _known_to(router: Router, data: MetricData) -> Floats:
    """The predictions (n_val, n_candidates) of the router's estimator.

    Raises:
        InputError: it is not among the trained estimators any more.
    """
    if router.estimator_name not in data.predictions:
        there = ", ".join(data.predictions)
        raise InputError(
            f"models/router routes by {router.estimator_name!r}, which is not trained any more (but"
            f" {there}): calibrate again."
        )
    return data.predictions[router.estimator_name][0]


def _generators(workspace: Workspace, router: Router) -> tuple[str, ...]:
    table = candidates_of(
        read_table(workspace.candidates, CANDIDATES, "generate"), router.cost_unit
    )
    known = dict(zip(table.names, table.generators, strict=True))
    return tuple(known.get(name, name) for name in router.candidates)


def _write(
    workspace: Workspace,
    document: dict[str, Any],
    pool: Pool,
    predicted: Floats,
    labels: Floats,
    shown: dict[str, list[Sample]],
) -> None:
    selection = selection_table(predicted, pool.cost, pool.candidates)
    drawn = figures(document, selection, predicted, labels)
    page = report(document, drawn, fit_table(predicted, labels, pool.candidates), shown)
    with ExitStack() as stack:
        out, plots, html = (
            stack.enter_context(replacing(workspace.reports / name))
            for name in ("metrics.json", "plots", "report.html")
        )
        plots.mkdir()
        deferral_table(document).to_csv(plots / "deferral.csv", index=False)
        selection.to_csv(plots / "selection.csv", index=False)
        for name, svg in drawn.items():
            (plots / f"{name}.svg").write_text(svg, encoding="utf-8")
        out.write_text(as_json(document), encoding="utf-8")
        html.write_text(page, encoding="utf-8")


def as_json(document: dict[str, Any]) -> str:
    """JSON with a line a key, and lists of numbers on one line."""
    text = json.dumps(document, indent=1, allow_nan=False)
    return (
        re.sub(
            r"\[\n([^\[\]{}\"]*)\n *\]", lambda found: "[" + " ".join(found[1].split()) + "]", text
        )
        + "\n"
    )

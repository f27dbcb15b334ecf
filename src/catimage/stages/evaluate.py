"""Stage evaluate: the calibrated router and every estimator on the test split, or on scores from elsewhere."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.overhead import decision_tflops
from catimage.evaluation.budget import Operating
from catimage.evaluation.methods import MetricData, Pool, metrics_document
from catimage.evaluation.plots import deferral_table, figures, selection_table
from catimage.evaluation.report import fit_table, report
from catimage.evaluation.samples import Sample, samples, telling_prompts
from catimage.evaluation.sets import sentences
from catimage.evaluation.summary import summary
from catimage.metrics import lower_is_better
from catimage.params import Encoder, Params
from catimage.router import Router
from catimage.routing.rule import Floats
from catimage.scores_file import parse_scores
from catimage.shards.manifest import read_manifest
from catimage.shards.store import shard_path
from catimage.stages.sets import sets_document
from catimage.stages.train import split_labels
from catimage.tables import PROMPTS, SCORES, labels_of, read_table, scores_array
from catimage.workspace import Workspace, replacing


@dataclass(frozen=True)
class Judged:
    """What the router is judged on: prompts and scores in the schemas of the tables, all of them test prompts."""

    prompts: pd.DataFrame
    scores: pd.DataFrame

    def of(self, metric: str) -> Judged:
        """The prompts that have a score by ``metric``."""
        scores = self.scores[self.scores["metric"] == metric]
        return Judged(self.prompts[self.prompts["prompt_id"].isin(scores["prompt_id"])].reset_index(drop=True), scores)


def run(workspace: Workspace, params: Params, scores: Path | None = None) -> None:
    """Writes ``reports/metrics.json``, ``reports/plots/`` and ``reports/report.html``: all of them, or none.

    Args:
        scores: a scores file, all of whose prompts are the test split; otherwise the workspace's own test split.

    Raises:
        InputError: no router or estimator is there, the router routes on another metric or unit than ``params.yaml``
            says, the test split is empty, or ``scores`` is not a whole scores file of the router's candidates.
    """
    router = Router.load(workspace.router)
    _check(router, params)
    prompts, table = read_table(workspace.prompts, PROMPTS, "sample"), read_table(workspace.scores, SCORES, "label")
    judged = _judged(prompts, table, router, scores)
    known = prompts[prompts["split"] != "test"]
    metrics = [m for m in _trained(workspace, router.metric) if m == router.metric or m in set(judged.scores["metric"])]
    data = [_metric_data(workspace, metric, known, table, judged.of(metric), router, params) for metric in metrics]
    test = judged.of(router.metric).prompts
    predicted = router.predict(test["prompt"].tolist())
    point = Operating(router.estimator_name, router.budget, router.lam, predicted)
    pool = Pool(router.candidates, router.costs, router.cost_unit)
    document = metrics_document(data[0], data[1:], pool, point, params.evaluate.bootstrap, params.evaluate.seed)
    document["decision_tflops"] = decision_tflops(router.estimator, max(test["prompt"], key=len))
    document["sets"] = sets_document(workspace, params, scores is None, test, pool, predicted, document)
    _write(
        workspace, document, pool, predicted, data[0].test, _samples(workspace if scores is None else None, test, data[0].test, point, pool)
    )
    print("\n".join([summary(document), *sentences(document["sets"])]), flush=True)


def _check(router: Router, params: Params) -> None:
    for key, routed, wanted in (("metric", router.metric, params.metric), ("cost_unit", router.cost_unit, params.cost_unit)):
        if routed != wanted:
            raise InputError(
                f"params.yaml: {key} is {wanted!r}, but models/router was calibrated on {routed!r}: train and calibrate again."
            )


def _judged(prompts: pd.DataFrame, table: pd.DataFrame, router: Router, scores: Path | None) -> Judged:
    if scores is None:
        test = prompts[prompts["split"] == "test"].reset_index(drop=True)
        if test.empty:
            raise InputError("prompts: the test split is empty; more prompts are needed (about 100 at least).")
        return Judged(test, table)
    file = parse_scores(scores)
    file.check_candidates(router.candidates, "the router")
    file.only(router.metric).check_complete([router.metric], router.candidates)
    seen = int(file.prompts["prompt_id"].isin(prompts.loc[prompts["split"] != "test", "prompt_id"]).sum())
    if seen:
        print(
            f"evaluate: {seen:,} of the {len(file.prompts):,} prompts of {scores} were trained or calibrated on: its figures flatter.",
            flush=True,
        )
    return Judged(file.prompts, file.scores)


def _trained(workspace: Workspace, routed: str) -> list[str]:
    """The metrics that have estimators, the routed one first."""
    return [routed, *sorted(p.name for p in workspace.estimators.glob("*") if p.is_dir() and p.name != routed)]


def _metric_data(
    workspace: Workspace, metric: str, known: pd.DataFrame, table: pd.DataFrame, judged: Judged, router: Router, params: Params
) -> MetricData:
    """Labels of one metric on the three splits, and the predictions of its estimators."""
    names = router.candidates
    lower = lower_is_better(metric, params)
    _, train = split_labels(known, table, "train", metric, names, params)
    val_prompts, validation = split_labels(known, table, "val", metric, names, params)
    by_seed = scores_array(judged.scores, metric, judged.prompts["prompt_id"].tolist(), names)
    data = MetricData(metric, train, validation, labels_of(by_seed, lower), {}, -by_seed if lower else by_seed, lower)
    test_prompts = judged.prompts["prompt"].to_numpy(object)
    return replace(data, predictions=_predictions(workspace, metric, names, val_prompts, test_prompts))


def _predictions(
    workspace: Workspace, metric: str, candidates: list[str], validation: np.ndarray, test: np.ndarray
) -> dict[str, tuple[Floats, Floats]]:
    folders = sorted(p for p in (workspace.estimators / metric).glob("*") if p.is_dir())
    if not folders:
        raise InputError(f"{workspace.estimators / metric} holds no estimator: run 'catimage train' first.")
    found = {}
    for folder in folders:
        estimator, meta = store.load(folder)
        if meta["candidates"] != candidates:
            raise InputError(
                f"{folder} was trained on other candidates than the router's: run 'catimage train' and 'catimage calibrate' again."
            )
        stored = workspace.embeddings(Encoder(**meta["encoder"]).name)
        features = estimator.named_steps["features"]
        if stored.exists() and "stored" in features.get_params():
            features.set_params(stored=str(stored))
        found[folder.name] = np.asarray(estimator.predict(validation), float), np.asarray(estimator.predict(test), float)
    return found


def _samples(workspace: Workspace | None, prompts: pd.DataFrame, labels: Floats, router: Operating, pool: Pool) -> list[Sample]:
    """A few prompts for the report, with their images where ``workspace`` has made them."""
    rows = telling_prompts(router.predicted, pool.cost)
    images: dict[tuple[int, str], bytes] = {}
    if workspace and workspace.images.exists():
        places = {prompts["prompt_id"][row]: row for row in rows.tolist()}
        images = {(places[i], candidate): image for (i, candidate), image in first_images(workspace.images, list(places)).items()}
    return samples(rows, prompts["prompt"].tolist(), router.predicted, labels, pool, router.lam, images)


def first_images(folder: Path, prompt_ids: list[str]) -> dict[tuple[str, str], bytes]:
    """The encoded image with the lowest seed of each of these prompts and each candidate, from the live shards."""
    found: dict[tuple[str, str], tuple[int, bytes]] = {}
    for entry in read_manifest(folder):
        columns = ["prompt_id", "candidate", "seed", "image"]
        table = pq.read_table(
            shard_path(folder, entry.shard), columns=columns, filters=[("prompt_id", "in", prompt_ids)], partitioning=None
        )
        for row in table.to_pylist():
            key = row["prompt_id"], row["candidate"]
            if key not in found or row["seed"] < found[key][0]:
                found[key] = row["seed"], row["image"]
    return {key: image for key, (_, image) in found.items()}


def _write(workspace: Workspace, document: dict[str, Any], pool: Pool, predicted: Floats, labels: Floats, shown: list[Sample]) -> None:
    selection = selection_table(predicted, pool.cost, pool.candidates)
    drawn = figures(document, selection, predicted, labels)
    page = report(document, drawn, fit_table(predicted, labels, pool.candidates), shown)
    with ExitStack() as stack:
        out, plots, html = (stack.enter_context(replacing(workspace.reports / name)) for name in ("metrics.json", "plots", "report.html"))
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
    return re.sub(r"\[\n([^\[\]{}\"]*)\n *\]", lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"

"""The dry run: problems, missing files and cost of a run of the stages, without network access."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from sklearn.pipeline import Pipeline

from catimage.commands.generation_size import estimate, size_per_prompt
from catimage.commands.offline_check import OfflineContext, check_encoder, is_not_cached, offline
from catimage.commands.pool_check import AVAILABLE, check_rows
from catimage.commands.pool_check import summary as pool_summary
from catimage.data.dataset import Candidates
from catimage.data.prompts.sources import read_source
from catimage.data.schema import PROMPTS, read_table
from catimage.errors import InputError, nearest
from catimage.estimators.build import build_estimator, in_dependency_order
from catimage.estimators.context import workspace_context
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import declaration, get_metric, required_metrics
from catimage.metrics.sets.registry import set_metric
from catimage.params import DecisionSource, FileSource, Params
from catimage.pool.candidate_images import pool_candidate_images
from catimage.pool.generation import check_cost_unit
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from catimage.workspace import Workspace

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the output of a dry run.

    Attributes:
        section: the section of ``params.yaml`` that the finding concerns, or ``estimate``.
        level: ``problem`` if the finding would stop a run, ``note`` if it would not but may need
            attention, otherwise ``ok``.
        message: one or two sentences.
    """

    section: str
    level: Level
    message: str


def dry_run(workspace: Workspace, params: Params, tflops_per_second: float) -> list[Finding]:
    """Check everything that can be checked before a run of the eight stages; write nothing.

    Metrics and the networks of set metrics are loaded as in a run, from this machine only. The text
    encoder of the router is not loaded; only the presence of its weights is checked.

    Args:
        workspace: the workspace, which need not exist.
        params: the parameters of the workspace.
        tflops_per_second: the speed of the machine of the run, for the estimate of hours.

    Returns:
        The findings in the order of the checks; the estimate is the last one.
    """
    if params.imported is not None:
        message = (
            f"'catimage import-{params.imported.kind}' created the workspace: nothing to check"
        )
        return [Finding("params", "note", message)]
    prompts, findings = _check_sources(workspace, params)
    pool: Pool | None = None
    rows: list[dict[str, Any]] = []
    try:
        pool, rows = _read_pool(workspace, params)
        findings += _check_pool(params, rows)
        check_cost_unit(pool, params.cost_unit, params.generate.device)
    except InputError as error:
        findings.append(Finding("pool", "problem", str(error)))
    with offline():
        findings.append(
            _try_to_load("encoder", params.encoder.name, partial(check_encoder, params.encoder))
        )
        findings += [*_check_metrics(params, pool), *_check_set_metrics(params)]
    findings += [*_check_estimators(workspace, params, pool), *_check_names(params)]
    if pool is not None:
        size = size_per_prompt(pool, rows, params.generate.seeds)
        findings.append(Finding("estimate", "ok", estimate(size, prompts, tflops_per_second)))
    return findings


def summary(findings: list[Finding]) -> str:
    """Return the number of problems and notes as a sentence."""
    problems, notes = (sum(f.level == level for f in findings) for level in ("problem", "note"))
    return f"{problems or 'no'} problem{'s' * (problems != 1)}, {notes} note{'s' * (notes != 1)}."


def _check_sources(workspace: Workspace, params: Params) -> tuple[int | None, list[Finding]]:
    """Read the prompt sources.

    Without an intake, the source of kind ``decisions`` has no prompts. This is only a note, because
    the flow ``retrain`` runs the intake before the stages.

    Returns:
        The largest possible number of prompts (None if a source cannot be read), and the findings.
    """
    if workspace.prompts.exists():
        count = len(read_table(workspace.prompts, PROMPTS, "sample"))
        return count, [Finding("sample", "ok", f"{count:,} prompts were sampled")]
    findings, total = [], 0
    for i, source in enumerate(params.sample.sources, 1):
        name = f"source {i} ({source.path if isinstance(source, FileSource) else source.kind})"
        try:
            result = read_source(source, workspace.root, params.sample.max_prompt_length)
        except InputError as error:
            awaited = isinstance(source, DecisionSource) and not workspace.traffic_prompts.exists()
            findings.append(Finding("sample", "note" if awaited else "problem", f"{name}: {error}"))
            continue
        total += len(result.prompts)
        too_long = f", {result.n_too_long:,} too long" if result.n_too_long else ""
        message = (
            f"{name}: {len(result.prompts):,} prompts{too_long}, before similar ones are removed"
        )
        findings.append(Finding("sample", "ok", message))
    return (None if any(f.level == "problem" for f in findings) else total), findings


def _read_pool(workspace: Workspace, params: Params) -> tuple[Pool, list[dict[str, Any]]]:
    """Return the pool and one row per candidate (:func:`check_rows`)."""
    return load_pool(params.pool, workspace.pools), check_rows(params.pool, workspace.pools)


def _check_pool(params: Params, rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """Report the problems and the missing weights of each generator."""
    yield Finding("pool", "ok", f"{params.pool}: {pool_summary(rows)}")
    for name, row in {row["generator"]: row for row in rows}.items():
        if row["problem"]:
            yield Finding("pool", "problem", f"{name}: {row['problem']}")
        elif row["weights"] != AVAILABLE:
            message = (
                f"{name}: weights: {row['weights']}. The generate stage downloads weights of the"
                " model hub when it starts; copy other weights to their folder"
            )
            yield Finding("pool", "note", message)


def _check_metrics(params: Params, pool: Pool | None) -> Iterator[Finding]:
    """Check that the metrics exist, have the references that they need, and can be loaded."""
    context = OfflineContext(params.encoder, "cpu", params.label.weights)
    try:
        required = required_metrics(params.label.metrics, params.label)
    except InputError as error:
        yield Finding("label", "problem", str(error))
        return
    for name in params.trained_metrics:
        if name not in params.label.metrics:
            message = (
                f"label.metrics: {name!r} is missing, but estimators are trained on it"
                f"{nearest(name, params.label.metrics)}. Add it, or remove it from metric and"
                " train.metrics"
            )
            yield Finding("train", "problem", message)
    for name in required:
        if declaration(name, params.label).needs_reference and pool is not None:
            try:
                pool_candidate_images(pool).check_references(name)
            except InputError as error:
                yield Finding("label", "problem", str(error))
                continue
        yield _try_to_load("label", name, partial(get_metric, name, context=context))


def _check_set_metrics(params: Params) -> Iterator[Finding]:
    """Check that the set metrics exist and that their networks can be loaded."""
    context = OfflineContext(params.encoder, "cpu", params.label.weights)
    for name in dict.fromkeys(params.evaluate.set_metrics):
        yield _try_to_load("evaluate", name, partial(_load_set_metric, name, context))


def _load_set_metric(name: str, context: MetricContext) -> object:
    from catimage.metrics.sets.features import load_extractor

    return load_extractor(set_metric(name).network, context)


def _check_estimators(workspace: Workspace, params: Params, pool: Pool | None) -> Iterator[Finding]:
    """Build each of ``train.estimators``; the members of a stack are built before the stack."""
    specs = pool.candidates if pool else []
    candidates = Candidates(
        [c.candidate for c in specs],
        np.zeros(len(specs)),
        "",
        tuple(c.generator for c in specs),
        tuple(c.steps for c in specs),
    )
    try:
        order = in_dependency_order(params.train.estimators)
        context = workspace_context(
            workspace, params.encoder, params.train, candidates, params.pool
        )
    except InputError as error:
        yield Finding("train", "problem", str(error))
        return
    built: dict[str, Pipeline] = {}
    for spec in order:
        try:
            built[spec.name], _ = build_estimator(spec, replace(context, members=built))
        except InputError as error:
            yield Finding("train", "problem", str(error))
            continue
        yield Finding("train", "ok", f"{spec.name}: a {spec.resolved_kind}")


def _check_names(params: Params) -> Iterator[Finding]:
    """Check the parameters that name an estimator of ``train.estimators`` or a trained metric."""
    names, plateau = [e.name for e in params.train.estimators], params.evaluate.plateau
    for key, name in (
        ("calibrate.estimator", params.calibrate.estimator),
        ("evaluate.plateau.estimator", plateau.estimator if plateau.metrics else "auto"),
    ):
        if name not in ("auto", *names):
            message = (
                f"{key}: {name!r} is not trained{nearest(name, names)}. Use one of"
                f" {', '.join(names)}, or add it to train.estimators"
            )
            yield Finding("train", "problem", message)
    for name in plateau.metrics:
        if name not in params.trained_metrics:
            message = (
                f"evaluate.plateau.metrics: {name!r} is not trained"
                f"{nearest(name, params.trained_metrics)}. Add it to train.metrics"
            )
            yield Finding("evaluate", "problem", message)


def _try_to_load(section: str, name: str, load: Callable[[], object]) -> Finding:
    """Call ``load`` and return the result as a finding.

    A missing file that a run would download is a note; any other ``InputError`` is a problem.
    """
    try:
        load()
    except InputError as error:
        if is_not_cached(error):
            message = (
                "the weights are not on this machine. The stage downloads them, and needs a network"
            )
            return Finding(section, "note", f"{name}: {message}")
        return Finding(section, "problem", f"{name}: {error}")
    return Finding(section, "ok", f"{name}: available")

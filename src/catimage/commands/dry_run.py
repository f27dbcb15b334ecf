"""A dry run: what of a workspace's parameters would stop a run, what is not at hand yet, and what
the run would cost. Asks no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from sklearn.pipeline import Pipeline

from catimage.commands.generation_size import estimate, size_of
from catimage.commands.offline_check import Looking, check_encoder, offline, unfetched
from catimage.commands.pool_check import AT_HAND, check_rows, summary
from catimage.data.dataset import Candidates
from catimage.data.prompts.sources import read_source
from catimage.data.schema import PROMPTS, read_table
from catimage.errors import InputError, nearest
from catimage.estimators.build import build_estimator, in_dependency_order
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import declaration, get_metric, required_metrics
from catimage.metrics.sets import set_metric
from catimage.params import FileSource, Params
from catimage.pool.candidate_images import images_of_pool
from catimage.pool.spec import Pool
from catimage.pool.loading import load_pool
from catimage.stages.train import estimator_context
from catimage.workspace import Workspace

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of a dry run. A ``problem`` would stop the run; a ``note`` would not, and is worth
    knowing before it.
    """

    part: str
    level: Level
    text: str


def rehearse(workspace: Workspace, params: Params, rate: float) -> list[Finding]:
    """All that can be known before a run of the eight stages on a pool. Nothing is written.

    Metrics and networks of set metrics are loaded as the run would load them, from this machine
    alone; of a CLIP by name or on the hub it is only looked whether its weights are here.

    Args:
        rate: TFLOPs that the machine of the run does in a second, for the estimate of hours.
    """
    if params.imported is not None:
        return [
            Finding(
                "params",
                "note",
                f"this workspace was made by 'import-{params.imported.kind}': there is nothing to"
                " generate",
            )
        ]
    prompts, found = _sources(workspace, params)
    pool, rows = _pool(workspace, params)
    found += (
        _about_pool(params, rows)
        if not isinstance(rows, str)
        else [Finding("pool", "problem", rows)]
    )
    with offline():
        found += [_encoder(params), *_metrics(params, pool), *_sets(params)]
    found += [*_estimators(workspace, params, pool), *_plateau(params)]
    if pool is not None and not isinstance(rows, str):
        found.append(
            Finding(
                "estimate",
                "ok",
                estimate(size_of(pool, rows, params.generate.seeds), prompts, rate),
            )
        )
    return found


def sentence(findings: list[Finding]) -> str:
    """One line on all of them."""
    problems, notes = (sum(f.level == level for f in findings) for level in ("problem", "note"))
    return f"{problems or 'no'} problem{'s' * (problems != 1)}, {notes} note{'s' * (notes != 1)}."


def _sources(workspace: Workspace, params: Params) -> tuple[int | None, list[Finding]]:
    """How many prompts there are at most, None where a source cannot be read."""
    if workspace.prompts.exists():
        count = len(read_table(workspace.prompts, PROMPTS, "sample"))
        return count, [Finding("sample", "ok", f"{count:,} prompts were sampled")]
    found, total = [], 0
    for i, source in enumerate(params.sample.sources, 1):
        name = f"source {i} ({source.path if isinstance(source, FileSource) else 'scenes'})"
        try:
            read = read_source(source, workspace.root, params.sample.max_prompt_length)
        except InputError as error:
            found.append(Finding("sample", "problem", f"{name}: {error}"))
            continue
        total += len(read.prompts)
        long = f", {read.too_long:,} too long" if read.too_long else ""
        found.append(
            Finding(
                "sample",
                "ok",
                f"{name}: {len(read.prompts):,} prompts{long}, before near ones are dropped",
            )
        )
    return (None if any(f.level == "problem" for f in found) else total), found


def _pool(workspace: Workspace, params: Params) -> tuple[Pool | None, list[dict[str, Any]] | str]:
    """The pool and what is known of its candidates, or what is wrong with it."""
    try:
        return load_pool(params.pool, workspace.pools), check_rows(params.pool, workspace.pools)
    except InputError as error:
        return None, str(error)


def _about_pool(params: Params, rows: list[dict[str, Any]]) -> list[Finding]:
    found = [Finding("pool", "ok", f"{params.pool}: {summary(rows)}")]
    for name, row in {row["generator"]: row for row in rows}.items():
        if row["problem"]:
            found.append(Finding("pool", "problem", f"{name}: {row['problem']}"))
        elif row["weights"] != AT_HAND:
            mend = "put them there, or stage generate fetches them when it starts, where it can"
            found.append(Finding("pool", "note", f"{name}: weights: {row['weights']}; {mend}"))
    return found


def _encoder(params: Params) -> Finding:
    return _tried("encoder", params.encoder.name, lambda: check_encoder(params.encoder))


def _metrics(params: Params, pool: Pool | None) -> Iterator[Finding]:
    """Known, with a reference where they need one, and with weights."""
    context = Looking(params.encoder, "cpu", params.label.weights)
    try:
        wanted = required_metrics(params.label.metrics, params.label)
    except InputError as error:
        yield Finding("label", "problem", str(error))
        return
    for name in params.trained_metrics:
        if name not in params.label.metrics:
            there = (
                f"{nearest(name, params.label.metrics)}: add it to label.metrics, or do not"
                " train it"
            )
            yield Finding(
                "train", "problem", f"the metric {name!r} is trained but not labelled{there}"
            )
    for name in wanted:
        if declaration(name, params.label).needs_reference and pool is not None:
            try:
                images_of_pool(pool).check_references(name)
            except InputError as error:
                yield Finding("label", "problem", str(error))
                continue
        yield _tried("label", name, partial(get_metric, name, context=context))


def _load_set_metric(name: str, context: MetricContext) -> object:
    from catimage.metrics.sets.features import load_extractor

    return load_extractor(set_metric(name).network, context)


def _sets(params: Params) -> Iterator[Finding]:
    context = Looking(params.encoder, "cpu", params.label.weights)
    for name in dict.fromkeys(params.evaluate.set_metrics):
        yield _tried("evaluate", name, partial(_load_set_metric, name, context))


def _estimators(workspace: Workspace, params: Params, pool: Pool | None) -> Iterator[Finding]:
    """Each of ``train.estimators`` is built, those that others are made of first."""
    candidates = pool.candidates if pool else []
    known = Candidates(
        [c.candidate for c in candidates],
        tuple(c.steps for c in candidates),
        tuple(c.generator for c in candidates),
    )
    built: dict[str, Pipeline] = {}
    try:
        order = in_dependency_order(params.train.estimators)
        context = estimator_context(workspace, params, known)
    except InputError as error:
        yield Finding("train", "problem", str(error))
        return
    for spec in order:
        try:
            built[spec.name], _ = build_estimator(spec, replace(context, members=built))
        except InputError as error:
            yield Finding("train", "problem", str(error))
            continue
        yield Finding("train", "ok", f"{spec.name}: a {spec.made_as}")
    names = [e.name for e in params.train.estimators]
    for key, name in (
        ("calibrate.estimator", params.calibrate.estimator),
        ("evaluate.plateau.estimator", _plateaus(params)),
    ):
        if name not in ("auto", *names):
            yield Finding(
                "train",
                "problem",
                f"{key}: {name!r} is not trained{nearest(name, names)}; there are"
                f" {', '.join(names)}",
            )


def _plateaus(params: Params) -> str:
    return params.evaluate.plateau.estimator if params.evaluate.plateau.metrics else "auto"


def _plateau(params: Params) -> Iterator[Finding]:
    """The metrics of the plateau rule need estimators of their own."""
    for name in params.evaluate.plateau.metrics:
        if name not in params.trained_metrics:
            text = (
                f"evaluate.plateau.metrics: {name!r} is not"
                f" trained{nearest(name, params.trained_metrics)}: add it to train.metrics"
            )
            yield Finding("evaluate", "problem", text)


def _tried(part: str, name: str, load: Callable[[], object]) -> Finding:
    """Whether something loads. What the hub would be asked for is no problem to a run that has a
    network.
    """
    try:
        load()
    except InputError as error:
        if unfetched(error):
            mend = "they are fetched when the stage starts, which needs a network"
            return Finding(part, "note", f"{name}: the weights are not on this machine; {mend}")
        return Finding(part, "problem", f"{name}: {error}")
    return Finding(part, "ok", f"{name}: at hand")

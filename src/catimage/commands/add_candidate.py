"""``catimage add-candidate``: a new generator, profiled on a few hundred prompts, and routed to at
once: nothing is trained again.

Model routing with models that were not there in training is Jitkrittum et al. 2025; how far it
falls short of training again is measured by ``benchmarks/adding.py``.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from catimage.commands.candidate_data import Profile, check_known, of_files, of_the_pool
from catimage.commands.incremental import Growth, extend_all
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, costs_of, read_table, write_table
from catimage.data.shards.manifest import read_manifest, write_manifest
from catimage.errors import InputError
from catimage.estimators.extended import FEWEST
from catimage.estimators.load_estimators import trained
from catimage.estimators.ragged_arrays import Ragged
from catimage.estimators.representatives import representatives
from catimage.params import Params, parse_params, read_tree, save_params
from catimage.pool.loading import load_pool
from catimage.router import Router
from catimage.stages import calibrate
from catimage.workspace import Workspace, replacing


@dataclass(frozen=True)
class Asked:
    """What to add: ``count`` representative prompts; ``scores`` and ``costs`` for a workspace of
    imported scores; ``judge`` makes the validation and test prompts' labels as well, without which
    evaluate cannot judge the new candidate.
    """

    name: str
    count: int = 200
    scores: Path | None = None
    costs: Path | None = None
    judge: bool = False


def run(workspace: Workspace, params: Params, asked: Asked) -> None:
    """Adds a candidate to scores, costs, estimators and router: all of them, or none.

    For a pool, only the representative prompts' images are made and scored, after which an
    interrupted call continues. For imported scores without ``asked.scores``,
    ``prompts-to-score.csv`` says which prompts to score, and that is all.
    ``validate.complete_labels`` becomes false, since the other prompts have no label of the new
    candidate.

    Raises:
        InputError: an unknown candidate or one that the router has; a router or estimators of other
            data; too few prompts or labels; or see :mod:`catimage.commands.candidate_data` and
            :mod:`catimage.stages.calibrate`.
    """
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    router = Router.load(workspace.router)
    _check(workspace, params, router, asked)
    chosen = _chosen(workspace, params, router, prompts, asked)
    if _from_files(params) and asked.scores is None:
        _write_list(workspace, chosen, asked)
        return
    if asked.scores is not None:
        profile = of_files(params, asked.name, prompts, asked.scores, asked.costs)
    else:
        profile = of_the_pool(workspace, params, asked.name, chosen)
    _add(workspace, params, router, prompts, profile, asked)


def _from_files(params: Params) -> bool:
    return params.imported is not None and params.imported.kind == "scores"


def _check(workspace: Workspace, params: Params, router: Router, asked: Asked) -> None:
    if asked.name in router.candidates:
        raise InputError(
            f"the router has a candidate {asked.name!r} already: name another, or train again to"
            " learn more of it."
        )
    for key, routed, said in (
        ("metric", router.metric, params.metric),
        ("cost_unit", router.cost_unit, params.cost_unit),
    ):
        if routed != said:
            raise InputError(
                f"params.yaml: {key} is {said!r}, but models/router was calibrated on {routed!r}:"
                " calibrate again first."
            )
    known, _ = costs_of(read_table(workspace.candidates, CANDIDATES, "generate"), params.cost_unit)
    if known != router.candidates:
        other = sorted(set(known) ^ set(router.candidates))
        what = f"models/router is of other data than {workspace.candidates}" + (
            f" (one has {other[0]!r})" if other else ""
        )
        raise InputError(f"{what}: train and calibrate first.")
    if not (workspace.estimators / params.metric / router.estimator_name).is_dir():
        raise InputError(
            f"models/router routes by {router.estimator_name!r}, which is not trained any more:"
            " calibrate again first."
        )
    _check_floors(params, asked)
    if _from_files(params):
        return
    if params.imported is not None:
        raise InputError(
            "this workspace was made by 'import-images': add the candidate's images to that file"
            " and import it again."
        )
    if asked.scores is not None or asked.costs is not None:
        raise InputError(
            "--scores and --costs are for a workspace of imported scores: here the pool makes and"
            " scores the images."
        )
    check_known(load_pool(params.pool, workspace.pools), asked.name)


def _check_floors(params: Params, asked: Asked) -> None:
    """Before images are made: a floor is judged on the validation split, of which ``judge`` alone
    makes the scores.
    """
    for key in ("floors", "quality_floor"):
        if (
            getattr(params.calibrate, key) not in (None, {})
            and not asked.judge
            and asked.scores is None
        ):
            raise InputError(
                f"calibrate.{key} is judged by scores of the validation prompts: give --judge, so"
                " that they are scored too."
            )


def _chosen(
    workspace: Workspace, params: Params, router: Router, prompts: pd.DataFrame, asked: Asked
) -> pd.DataFrame:
    """Rows of the prompts table: the representatives of the train split, and to ``judge`` all of
    the other splits.
    """
    train = prompts[prompts["split"] == "train"]
    if not FEWEST <= asked.count <= len(train):
        raise InputError(
            f"--prompts {asked.count}: name a number from {FEWEST} to {len(train):,}, the prompts"
            " of the train split."
        )
    estimator = trained(
        workspace, workspace.estimators / params.metric / router.estimator_name, router.candidates
    )
    texts = train["prompt"].to_numpy(object)
    vectors = _vectors(estimator.named_steps["features"].transform(texts), texts)
    rows = train.iloc[representatives(vectors, asked.count, params.train.seed)]
    return pd.concat([rows, prompts[prompts["split"] != "train"]]) if asked.judge else rows


def _vectors(features: Any, prompts: np.ndarray) -> Any:
    """Rows of numbers by which prompts are compared: an estimator's features, the mean of token
    embeddings, or else TF-IDF.
    """
    if isinstance(features, Ragged):
        return features.mean(features.values.astype(np.float32))
    if issparse(features) or np.ndim(features) == 2:
        return features
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True).fit_transform(prompts)


def _write_list(workspace: Workspace, chosen: pd.DataFrame, asked: Asked) -> None:
    path = workspace.root / "prompts-to-score.csv"
    with replacing(path) as fresh:
        chosen[["prompt", "split"]].to_csv(fresh, index=False)
    print(
        f"add-candidate: {path} has the {len(chosen):,} prompts to score: make images of them by"
        f" {asked.name!r}, score them, and call again with --scores SCORES.csv"
        " (prompt,candidate,seed,metric,value) and --costs COSTS.csv (candidate,cost,unit)",
        flush=True,
    )


def _add(
    workspace: Workspace,
    params: Params,
    router: Router,
    prompts: pd.DataFrame,
    profile: Profile,
    asked: Asked,
) -> None:
    """Everything is made in a folder beside the workspace's, and moved when it is whole."""
    folder = workspace.root / ".catimage" / "adding"
    shutil.rmtree(folder, ignore_errors=True)
    stage = Workspace(folder)
    try:
        grown = _tables(workspace, stage, params, prompts, profile)
        labelled = extend_all(Growth(workspace, stage, grown, router, prompts, asked.name))
        keeping = grown.calibrate.model_copy(update={"estimator": router.estimator_name})
        calibrate.run(stage, grown.model_copy(update={"calibrate": keeping}))
        _move(stage, workspace, profile)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(_sentence(workspace, grown, prompts, asked.name, labelled), flush=True)


def _tables(
    workspace: Workspace, stage: Workspace, params: Params, prompts: pd.DataFrame, profile: Profile
) -> Params:
    """Prompts, candidates, scores and params.yaml with the new candidate."""
    candidates = read_table(workspace.candidates, CANDIDATES, "generate")
    scores = read_table(workspace.scores, SCORES, "label")
    write_table(prompts, stage.prompts, PROMPTS)
    write_table(pd.concat([candidates, profile.costs]), stage.candidates, CANDIDATES)
    write_table(pd.concat([scores, profile.scores]), stage.scores, SCORES)
    tree = read_tree(workspace.params)
    tree["validate"] = {**(tree.get("validate") or {}), "complete_labels": False}
    save_params(tree, stage.params)
    for place in ("data/embeddings", "pools"):
        if (workspace.root / place).is_dir():
            (stage.root / place).symlink_to((workspace.root / place).resolve())
    return parse_params(tree, workspace.params)


def _move(stage: Workspace, workspace: Workspace, profile: Profile) -> None:
    """All of them take their places once all are there."""
    with ExitStack() as stack:
        for new, old in (
            (stage.candidates, workspace.candidates),
            (stage.scores, workspace.scores),
            (stage.estimators, workspace.estimators),
            (stage.router, workspace.router),
            (stage.params, workspace.params),
        ):
            new.rename(stack.enter_context(replacing(old)))
        if profile.entries:
            write_manifest(workspace.images, [*read_manifest(workspace.images), *profile.entries])


def _sentence(
    workspace: Workspace, params: Params, prompts: pd.DataFrame, name: str, labelled: int
) -> str:
    """What was learned from, and whether the new candidate can be judged."""
    scores = read_table(workspace.scores, SCORES, "label")
    known = set(
        scores.loc[(scores["candidate"] == name) & (scores["metric"] == params.metric), "prompt_id"]
    )
    test = prompts.loc[prompts["split"] == "test", "prompt_id"]
    judged = int(test.isin(known).sum())
    if judged == len(test):
        judging = "'catimage evaluate' judges it on all test prompts"
    elif judged:
        judging = (
            f"'catimage evaluate' judges on the {judged:,} of {len(test):,} test prompts that have"
            " its score"
        )
    else:
        mend = (
            "'catimage evaluate --scores OTHER.csv' can"
            if _from_files(params)
            else "generate and label make them"
        )
        judging = (
            "no test prompt has its score (--judge makes them), so that 'catimage evaluate' cannot"
            f" judge it: {mend}"
        )
    return (
        f"add-candidate: {name} learned from {labelled:,} prompts; the router routes to it now;"
        f" {judging}"
    )

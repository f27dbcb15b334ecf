"""``catimage add-candidate``: add a candidate to a router from scores of a few hundred prompts.

The trained estimators are extended by the candidate, not trained again (Jitkrittum et al. 2025,
"Universal model routing", route to models that were not available for training).
``benchmarks/add_candidate.py`` compares the extension with training again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse

from catimage.commands.candidate_data import CandidateData, generate_candidate, read_candidate
from catimage.commands.candidate_request import CandidateRequest, check_request, has_imported_scores
from catimage.commands.dvc_outputs import DvcOutputs
from catimage.commands.staged_candidate import (
    commit_candidate,
    locked_outputs,
    staged_candidate,
)
from catimage.data.provenance import Provenance
from catimage.data.schema import PROMPTS, SCORES, read_table
from catimage.errors import InputError
from catimage.estimators.extended import MIN_LABELS
from catimage.estimators.load_estimators import load_estimator
from catimage.estimators.ragged_arrays import RaggedArray
from catimage.estimators.representatives import representatives
from catimage.evaluation.router_folder import load_calibrated_router
from catimage.params import Params
from catimage.router import Router
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, params: Params, request: CandidateRequest) -> None:
    """Add a candidate to the tables, the estimators and the router.

    If a step fails or the process is killed, all of them stay unchanged, or the next command
    completes the replacement (:mod:`catimage.common.transaction`). The locks of the images, of the
    scores, and of the outputs in DVC are held from the beginning to the end.

    With a pool, images of the representative prompts are generated and scored; the next call
    continues an interrupted one. With imported scores and without ``request.scores``, the prompts
    to score are written to ``prompts-to-score.csv`` and nothing else changes. Prompts that are not
    scored have no label of the candidate, so ``validate.complete_labels`` becomes false.

    Raises:
        InputError: the router was calibrated for other parameters, tables or estimators, the
            request is invalid (:func:`check_request`), its files are invalid
            (:mod:`catimage.commands.candidate_data`), there are too few prompts or labels, the
            validation or the calibration fails, or another process writes the outputs.
    """
    with locked_outputs(workspace) as dvc:
        _run(workspace, params, request, dvc)


def _run(
    workspace: Workspace, params: Params, request: CandidateRequest, dvc: DvcOutputs | None
) -> None:
    """Add a candidate while the locks are held."""
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    provenance = Provenance(workspace)
    router = load_calibrated_router(workspace, provenance, params.metric, params.cost_unit)
    check_request(workspace, params, router, request)
    prompts_to_score = _choose_prompts(workspace, params, router, prompts, request)
    if request.scores is None and has_imported_scores(params):
        _write_prompt_list(workspace, prompts_to_score, request)
        return
    outdated = "" if dvc is None else dvc.outdated(params)
    data = _candidate_data(workspace, params, request, prompts, prompts_to_score)
    with staged_candidate(workspace, params, router, data, request.name) as candidate:
        commit_candidate(workspace, candidate, None if outdated else dvc)
    print(_summary(workspace, params, prompts, request.name, candidate.labelled), flush=True)
    if dvc is not None:
        print(f"add-candidate: {_dvc_note(outdated)}", flush=True)


def _candidate_data(
    workspace: Workspace,
    params: Params,
    request: CandidateRequest,
    prompts: pd.DataFrame,
    prompts_to_score: pd.DataFrame,
) -> CandidateData:
    """Read the scores of the candidate, or generate and score its images."""
    if request.scores is None:
        return generate_candidate(workspace, params, request.name, prompts_to_score)
    return read_candidate(
        request.name, prompts, params.cost_unit, request.scores, request.costs, params.metric
    )


def _dvc_note(outdated: str) -> str:
    """Return a text about the next ``dvc repro``.

    Args:
        outdated: the reason why the outputs were not committed; empty if they were.
    """
    if not outdated:
        return (
            "dvc.lock records the new outputs, so that 'dvc repro' next runs evaluate and package"
        )
    return (
        f"dvc.lock was not changed, because {outdated}. The next 'dvc repro' runs the stages that"
        " are out of date, and trains new estimators on the labels of all candidates"
    )


def _choose_prompts(
    workspace: Workspace,
    params: Params,
    router: Router,
    prompts: pd.DataFrame,
    request: CandidateRequest,
) -> pd.DataFrame:
    """Return the rows of the prompts to score."""
    train = prompts[prompts["split"] == "train"]
    if not MIN_LABELS <= request.count <= len(train):
        raise InputError(
            f"--prompts {request.count}: must be between {MIN_LABELS} and {len(train):,}, the"
            " number of prompts of the train split. Give another number."
        )
    folder = workspace.estimators / params.metric / router.estimator_name
    estimator = load_estimator(workspace, folder, router.candidates)
    texts = train["prompt"].to_numpy(object)
    vectors = _vectors(estimator.named_steps["features"].transform(texts), texts)
    rows = train.iloc[representatives(vectors, request.count, params.train.seed)]
    if request.score_all_splits:
        return pd.concat([rows, prompts[prompts["split"] != "train"]])
    return rows


def _vectors(features: Any, prompts: NDArray[np.object_]) -> Any:
    """Return one vector per prompt for clustering, (n_prompts, n_features).

    The vectors are the features of the estimator. If the estimator has features of tokens, the
    vectors are their means; if its features are not numbers, the vectors are TF-IDF features.
    """
    if isinstance(features, RaggedArray):
        return features.mean(features.values.astype(np.float32))
    if issparse(features) or np.ndim(features) == 2:
        return features
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True).fit_transform(prompts)


def _write_prompt_list(
    workspace: Workspace, prompts_to_score: pd.DataFrame, request: CandidateRequest
) -> None:
    """Write ``prompts-to-score.csv`` and print the next step."""
    path = workspace.root / "prompts-to-score.csv"
    with replacing(path) as new:
        prompts_to_score[["prompt", "split"]].to_csv(new, index=False)
    print(
        f"add-candidate: {path} has the {len(prompts_to_score):,} prompts to score. Generate images"
        f" of these prompts with {request.name!r}, score the images, and run the command again with"
        " --scores SCORES.csv (prompt,candidate,seed,metric,value) and --costs COSTS.csv"
        " (candidate,cost,unit).",
        flush=True,
    )


def _summary(
    workspace: Workspace, params: Params, prompts: pd.DataFrame, name: str, labelled: int
) -> str:
    """Return a text: the number of labels, and whether ``evaluate`` can evaluate the candidate."""
    scores = read_table(workspace.scores, SCORES, "label")
    rows = scores[(scores["candidate"] == name) & (scores["metric"] == params.metric)]
    scored = {
        split: prompts.loc[prompts["split"] == split, "prompt_id"].isin(rows["prompt_id"])
        for split in ("val", "test")
    }
    count, total = int(scored["test"].sum()), len(scored["test"])
    if not scored["val"].any() or not count:
        fix = (
            "Import the scores again with those of the candidate on these splits"
            if has_imported_scores(params)
            else "Run 'catimage generate' and 'catimage label' first"
        )
        note = (
            "'catimage evaluate' needs scores of the candidate on validation and test prompts, and"
            f" there are none (--score-all-splits adds them). {fix}"
        )
    elif count == total:
        note = "'catimage evaluate' evaluates it on all test prompts"
    else:
        note = (
            f"'catimage evaluate' uses the {count:,} of {total:,} test prompts that have a score of"
            " the candidate"
        )
    return (
        f"add-candidate: the router can now choose {name}; its quality was learned from"
        f" {labelled:,} prompts; {note}."
    )

"""``catimage add-candidate``: add a candidate to a router from scores of a few hundred prompts.

The trained estimators are extended by the candidate, not trained again (Jitkrittum et al. 2025,
"Universal model routing", route to models that were not available for training).
``benchmarks/add_candidate.py`` compares the extension with training again.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse

from catimage.commands.candidate_data import CandidateData, generate_candidate, read_candidate
from catimage.commands.candidate_request import CandidateRequest, check_request, has_imported_scores
from catimage.commands.incremental import Extension, extend_estimators
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table, write_table
from catimage.data.shards.manifest import read_manifest, write_manifest
from catimage.errors import InputError
from catimage.estimators.extended import MIN_LABELS
from catimage.estimators.load_estimators import load_estimator
from catimage.estimators.ragged_arrays import RaggedArray
from catimage.estimators.representatives import representatives
from catimage.params import Params, apply_setting, parse_params, read_tree, save_params
from catimage.router import Router
from catimage.stages import calibrate
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, params: Params, request: CandidateRequest) -> None:
    """Add a candidate to the tables, the estimators and the router.

    If a step fails, all of them stay unchanged.

    With a pool, images of the representative prompts are generated and scored; the next call
    continues an interrupted one. With imported scores and without ``request.scores``, the prompts
    to score are written to ``prompts-to-score.csv`` and nothing else changes. Prompts that are not
    scored have no label of the candidate, so ``validate.complete_labels`` becomes false.

    Raises:
        InputError: the request is invalid (:func:`check_request`), its files are invalid
            (:mod:`catimage.commands.candidate_data`), there are too few prompts or labels, or the
            calibration fails.
    """
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    router = Router.load(workspace.router)
    check_request(workspace, params, router, request)
    prompts_to_score = _choose_prompts(workspace, params, router, prompts, request)
    if request.scores is not None:
        unit = params.cost_unit
        data = read_candidate(request.name, prompts, unit, request.scores, request.costs)
    elif has_imported_scores(params):
        _write_prompt_list(workspace, prompts_to_score, request)
        return
    else:
        data = generate_candidate(workspace, params, request.name, prompts_to_score)
    labelled = _add(workspace, params, router, data, request)
    print(_summary(workspace, params, prompts, request.name, labelled), flush=True)


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


def _add(
    workspace: Workspace,
    params: Params,
    router: Router,
    data: CandidateData,
    request: CandidateRequest,
) -> int:
    """Write all outputs to a temporary workspace, and move them when all are complete.

    Returns:
        The number of training prompts that have a label of the candidate.
    """
    folder = workspace.root / ".catimage" / "add-candidate"
    shutil.rmtree(folder, ignore_errors=True)
    staged = Workspace(folder)
    try:
        new_params = _write_tables(workspace, staged, data)
        extension = Extension(workspace, staged, new_params, router, request.name)
        labelled = extend_estimators(extension)
        same_estimator = new_params.calibrate.model_copy(
            update={"estimator": router.estimator_name}
        )
        calibrate.run(staged, new_params.model_copy(update={"calibrate": same_estimator}))
        _move(staged, workspace, data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return labelled


def _write_tables(workspace: Workspace, staged: Workspace, data: CandidateData) -> Params:
    """Write ``params.yaml`` and the tables, with the candidate, to ``staged``.

    Returns:
        The new parameters.
    """
    candidates = read_table(workspace.candidates, CANDIDATES, "generate")
    scores = read_table(workspace.scores, SCORES, "label")
    write_table(read_table(workspace.prompts, PROMPTS, "sample"), staged.prompts, PROMPTS)
    write_table(pd.concat([candidates, data.costs]), staged.candidates, CANDIDATES)
    write_table(pd.concat([scores, data.scores]), staged.scores, SCORES)
    tree = read_tree(workspace.params)
    apply_setting(tree, "validate.complete_labels=false")
    save_params(tree, staged.params)
    for name in ("data/embeddings", "pools"):
        if (workspace.root / name).is_dir():
            (staged.root / name).symlink_to((workspace.root / name).resolve())
    return parse_params(tree, workspace.params)


def _move(staged: Workspace, workspace: Workspace, data: CandidateData) -> None:
    """Move the outputs from the temporary workspace ``staged`` to ``workspace``."""
    with ExitStack() as stack:
        for source, target in (
            (staged.candidates, workspace.candidates),
            (staged.scores, workspace.scores),
            (staged.estimators, workspace.estimators),
            (staged.router, workspace.router),
            (staged.params, workspace.params),
        ):
            source.rename(stack.enter_context(replacing(target)))
        if data.entries:
            write_manifest(workspace.images, [*read_manifest(workspace.images), *data.entries])


def _summary(
    workspace: Workspace, params: Params, prompts: pd.DataFrame, name: str, labelled: int
) -> str:
    """Return a text: the number of labels, and whether ``evaluate`` can evaluate the candidate."""
    scores = read_table(workspace.scores, SCORES, "label")
    rows = scores[(scores["candidate"] == name) & (scores["metric"] == params.metric)]
    test = prompts.loc[prompts["split"] == "test", "prompt_id"]
    scored = int(test.isin(rows["prompt_id"]).sum())
    if scored == len(test):
        note = "'catimage evaluate' evaluates it on all test prompts"
    elif scored:
        note = (
            f"'catimage evaluate' uses the {scored:,} of {len(test):,} test prompts that have a"
            " score of the candidate"
        )
    else:
        fix = (
            "Run 'catimage evaluate --scores SCORES.csv' with scores of all candidates"
            if has_imported_scores(params)
            else "Run 'catimage generate' and 'catimage label' first"
        )
        note = (
            "no test prompt has a score of the candidate (--score-all-splits adds these scores), so"
            f" 'catimage evaluate' cannot evaluate it. {fix}"
        )
    return (
        f"add-candidate: the router can now choose {name}; its quality was learned from"
        f" {labelled:,} prompts; {note}."
    )

"""``add-candidate`` in a workspace of imported scores."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands import add_candidate, import_scores
from catimage.commands.candidate_request import CandidateRequest
from catimage.data.schema import (
    CANDIDATES,
    PROMPTS,
    SCORES,
    read_inputs,
    read_refused,
    read_table,
    write_frames,
)
from catimage.errors import InputError
from catimage.params import load_params
from catimage.router import Router
from catimage.stages import calibrate, evaluate, train
from catimage.workspace import Workspace
from tests.provenance import mark_validated, record_inputs

QUALITY = {"cheap": (0.62, 0.30), "expensive": (0.60, 0.70), "new": (0.80, 0.20)}
"""The quality of each candidate for plain and for crowded prompts."""


def rows_of(prompts, candidates, metrics=("quality",), seed=0):
    """Yield the rows of a scores file: :data:`QUALITY` plus noise, and 1 minus it for ``error``."""
    rng = np.random.default_rng(seed)
    for prompt in prompts:
        for candidate in candidates:
            value = QUALITY[candidate][prompt.startswith("crowded")] + rng.normal(0, 0.02)
            yield from (
                [prompt, candidate, 0, metric, value if metric == "quality" else 1 - value]
                for metric in metrics
            )


def write(path, rows, header=("prompt", "candidate", "seed", "metric", "value")):
    """Write a CSV file and return its path."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def calibrated_workspace(tmp_path_factory):
    """A workspace that routes between two candidates."""
    root = tmp_path_factory.mktemp("trained")
    write(
        root / "costs.csv",
        [["cheap", 1, "seconds"], ["expensive", 10, "seconds"]],
        ("candidate", "cost", "unit"),
    )
    prompts = [f"{('plain', 'crowded')[i % 2]} scene number {i}" for i in range(400)]
    scores = write(
        root / "scores.csv", rows_of(prompts, ("cheap", "expensive"), ("quality", "error"))
    )
    settings = [
        "metric=quality",
        "budget=60%",
        "train.metrics=[error]",
        "import.lower_is_better=[error]",
        "evaluate.bootstrap=200",
    ]
    workspace = Workspace(root / "w")
    import_scores.run(workspace, scores, root / "costs.csv", settings)
    mark_validated(workspace)
    params = load_params(workspace.params)
    train.run(workspace, params)
    calibrate.run(workspace, params)
    return workspace


@pytest.fixture
def workspace(calibrated_workspace, tmp_path):
    import shutil

    return Workspace(shutil.copytree(calibrated_workspace.root, tmp_path / "w"))


def add(workspace, count=40, metrics=("quality", "error"), prompts=None, **options):
    """List the prompts to score, score these or other ``prompts``, and add the candidate.

    Returns:
        The listed prompts.
    """
    params = load_params(workspace.params)
    add_candidate.run(workspace, params, CandidateRequest("new", count, **options))
    listed = pd.read_csv(workspace.root / "prompts-to-score.csv")["prompt"].tolist()
    scores = write(workspace.root / "new.csv", rows_of(prompts or listed, ["new"], metrics, seed=1))
    costs = write(
        workspace.root / "cost.csv", [["new", 3, "seconds"]], ("candidate", "cost", "unit")
    )
    add_candidate.run(workspace, params, CandidateRequest("new", count, scores, costs, **options))
    return listed


def test_prompts_to_score_are_training_prompts_and_nothing_else_is_written(workspace):
    before = Router.load(workspace.router)
    add_candidate.run(workspace, load_params(workspace.params), CandidateRequest("new", 40))
    listed = pd.read_csv(workspace.root / "prompts-to-score.csv")
    assert listed["split"].tolist() == ["train"] * 40
    assert Router.load(workspace.router).candidates == before.candidates == ["cheap", "expensive"]


def test_router_has_the_candidate_and_unchanged_predictions_for_the_other_candidates(workspace):
    before = Router.load(workspace.router)
    add(workspace)
    router = Router.load(workspace.router)
    assert router.candidates == ["cheap", "new", "expensive"]
    assert router.costs.tolist() == [1, 3, 10]
    prompts = ["plain scene number 1001", "crowded scene number 1002"]
    assert np.allclose(router.predict(prompts)[:, [0, 2]], before.predict(prompts), 0, 1e-6)
    assert [d.candidate for d in router.route(prompts, lam=0.0)] == ["new", "expensive"]


def test_workspace_with_an_added_candidate_allows_missing_labels(workspace):
    listed = add(workspace)
    scores = read_table(workspace.scores, SCORES, "label")
    assert (scores["candidate"] == "new").sum() == 2 * len(listed)
    assert read_table(workspace.candidates, CANDIDATES, "generate").query("candidate == 'new'")[
        "cost"
    ].tolist() == [3]
    assert load_params(workspace.params).validation.complete_labels is False


def test_the_record_of_refused_images_is_kept(workspace):
    scores = read_table(workspace.scores, SCORES, "label")
    refused = scores[["prompt_id", "candidate", "seed"]].iloc[:1].assign(seed=99)
    inputs = read_inputs(workspace.scores, "label")
    write_frames([scores], workspace.scores, SCORES, inputs, refused)
    record_inputs(workspace)
    add(workspace)
    kept = read_refused(workspace.scores, "label")
    assert kept.to_numpy().tolist() == refused.to_numpy().tolist()


def test_every_estimator_of_every_metric_has_the_candidate(workspace):
    add(workspace)
    for metric in ("quality", "error"):
        meta = json.loads((workspace.estimators / metric / "ridge" / "estimator.json").read_text())
        assert meta["candidates"] == ["cheap", "new", "expensive"]
        assert meta["added"] == ["new"]
        out_of_fold = pd.read_parquet(
            workspace.estimators / metric / "ridge" / "out_of_fold.parquet"
        )
        assert list(out_of_fold.columns) == ["prompt_id", "cheap", "new", "expensive"]
        assert np.isfinite(out_of_fold.iloc[:, 1:].to_numpy()).all()


def test_predictions_of_labelled_prompts_are_out_of_fold(workspace):
    add(workspace)
    out_of_fold = pd.read_parquet(
        workspace.estimators / "quality" / "ridge" / "out_of_fold.parquet"
    )
    table = read_table(workspace.prompts, PROMPTS, "sample").set_index("prompt_id")
    crowded = table.loc[out_of_fold["prompt_id"], "prompt"].str.startswith("crowded").to_numpy()
    assert out_of_fold["new"][~crowded].mean() == pytest.approx(0.8, abs=0.05)
    assert out_of_fold["new"][crowded].mean() == pytest.approx(0.2, abs=0.05)


def test_evaluate_includes_a_candidate_with_test_scores(workspace, capsys):
    add(workspace, score_all_splits=True)
    assert "evaluates it on all test prompts" in capsys.readouterr().out
    evaluate.run(workspace, load_params(workspace.params))
    document = json.loads((workspace.reports / "metrics.json").read_text())
    assert [c["candidate"] for c in document["candidates"]] == ["cheap", "new", "expensive"]
    assert document["methods"]["ridge"]["max_quality"] == pytest.approx(0.75, abs=0.03)


def test_missing_test_scores_are_reported(workspace, capsys):
    add(workspace)
    assert (
        "'catimage evaluate' needs scores of the candidate on validation and test prompts, and"
        " there are none (--score-all-splits adds them). Import the scores again with those of the"
        " candidate on these splits"
    ) in capsys.readouterr().out
    with pytest.raises(
        InputError,
        match=r"no prompt of the validation split has a quality score for every candidate\. Add"
        r" scores of the validation split .* import the scores again",
    ):
        evaluate.run(workspace, load_params(workspace.params))


def test_command_writes_the_prompts_to_score(workspace):
    result = CliRunner().invoke(
        app, ["add-candidate", "new", "--prompts", "30", "--workspace", str(workspace.root)]
    )
    assert result.exit_code == 0, result.output
    assert "prompts-to-score.csv has the 30 prompts to score" in result.output


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (CandidateRequest("expensive"), "already has a candidate 'expensive'"),
        (CandidateRequest("new", 5), "--prompts 5: must be between 20 and"),
        (CandidateRequest("new", 100_000), "the number of prompts of the train split"),
    ],
)
def test_invalid_requests_are_refused(workspace, request_, message):
    with pytest.raises(InputError, match=message):
        add_candidate.run(workspace, load_params(workspace.params), request_)


METRICS = ("quality", "error")
INVALID_FILES = [  # the scored prompts, candidate and metrics, the unit of the cost, the message
    (slice(40), "expensive", METRICS, "seconds", "no scores of the candidate 'new'"),
    (None, "new", METRICS, "seconds", "row 2: the workspace does not have this prompt"),
    (slice(40), "new", ("quality",), "seconds", "no score by the trained metric 'error'"),
    (slice(9), "new", METRICS, "seconds", "and at least 20 are needed"),
    (slice(40), "new", METRICS, "usd", "no cost of 'new' in the unit 'seconds' .only in usd"),
    (
        slice(40),
        "new",
        METRICS,
        None,
        "--costs: the option is missing, and 'new' needs a cost in 'seconds'",
    ),
]


@pytest.mark.parametrize(("rows", "candidate", "metrics", "unit", "message"), INVALID_FILES)
def test_invalid_files_change_nothing(workspace, rows, candidate, metrics, unit, message):
    table = read_table(workspace.prompts, PROMPTS, "sample").query("split == 'train'")
    prompts = table["prompt"].tolist()[rows] if rows else ["an unknown prompt"]
    scores = write(workspace.root / "new.csv", rows_of(prompts, [candidate], metrics))
    costs = workspace.root / "cost.csv"
    write(costs, [["new", 3, unit]], ("candidate", "cost", "unit"))
    before = workspace.scores.read_bytes()
    request = CandidateRequest("new", 40, scores, costs if unit else None)
    with pytest.raises(InputError, match=message):
        add_candidate.run(workspace, load_params(workspace.params), request)
    assert workspace.scores.read_bytes() == before
    assert Router.load(workspace.router).candidates == ["cheap", "expensive"]


def test_router_with_other_candidates_is_refused(workspace):
    from catimage.data.schema import write_table

    table = read_table(workspace.candidates, CANDIDATES, "generate")
    write_table(table[table["candidate"] != "expensive"], workspace.candidates, CANDIDATES)
    message = r"validation\.json: was computed from another version of data/candidates\.parquet"
    with pytest.raises(InputError, match=message):
        add_candidate.run(workspace, load_params(workspace.params), CandidateRequest("new", 40))


def test_router_whose_estimator_is_missing_is_refused(workspace):
    import shutil

    shutil.rmtree(workspace.estimators / "quality" / "ridge")
    with pytest.raises(
        InputError,
        match=r"router: was computed from another version of models/estimators\. Run 'catimage cal",
    ):
        add_candidate.run(workspace, load_params(workspace.params), CandidateRequest("new", 40))


@pytest.mark.parametrize(
    "setting", ["calibrate.quality_floor=0.3", "calibrate.floors={error: 0.9}"]
)
def test_floors_need_scores_of_the_validation_prompts(workspace, setting):
    params = load_params(workspace.params, [setting])
    with pytest.raises(
        InputError, match=r"needs scores of the validation prompts\. Add --score-all-splits"
    ):
        add_candidate.run(workspace, params, CandidateRequest("new", 40))
    assert not (workspace.root / "prompts-to-score.csv").exists()
    add_candidate.run(workspace, params, CandidateRequest("new", 40, score_all_splits=True))
    assert "val" in set(pd.read_csv(workspace.root / "prompts-to-score.csv")["split"])

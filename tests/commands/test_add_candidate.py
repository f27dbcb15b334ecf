import csv
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands import add_candidate as adding
from catimage.commands import import_scores as importing
from catimage.commands.add_candidate import Asked
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table
from catimage.errors import InputError
from catimage.params import load_params
from catimage.router import Router
from catimage.stages import calibrate, evaluate, train
from catimage.workspace import Workspace

QUALITY = {"cheap": (0.62, 0.30), "dear": (0.60, 0.70), "new": (0.80, 0.20)}
"""Of plain and of crowded prompts."""


def rows_of(prompts, candidates, metrics=("quality",), seed=0):
    rng = np.random.default_rng(seed)
    for prompt in prompts:
        for candidate in candidates:
            value = QUALITY[candidate][prompt.startswith("crowded")] + rng.normal(0, 0.02)
            yield from (
                [prompt, candidate, 0, metric, value if metric == "quality" else 1 - value]
                for metric in metrics
            )


def write(path, rows, header=("prompt", "candidate", "seed", "metric", "value")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A workspace that routes between two candidates."""
    root = tmp_path_factory.mktemp("first")
    write(
        root / "costs.csv",
        [["cheap", 1, "seconds"], ["dear", 10, "seconds"]],
        ("candidate", "cost", "unit"),
    )
    prompts = [f"{('plain', 'crowded')[i % 2]} scene number {i}" for i in range(400)]
    scores = write(root / "scores.csv", rows_of(prompts, ("cheap", "dear"), ("quality", "error")))
    settings = [
        "metric=quality",
        "budget=60%",
        "train.metrics=[error]",
        "import.lower_is_better=[error]",
        "evaluate.bootstrap=200",
    ]
    workspace = Workspace(root / "w")
    importing.run(workspace, scores, root / "costs.csv", settings)
    (workspace.reports).mkdir(exist_ok=True)
    (workspace.reports / "validation.json").write_text('{"success": true}')
    params = load_params(workspace.params)
    train.run(workspace, params)
    calibrate.run(workspace, params)
    return workspace


@pytest.fixture
def workspace(first, tmp_path):
    import shutil

    return Workspace(shutil.copytree(first.root, tmp_path / "w"))


def add(workspace, count=40, metrics=("quality", "error"), prompts=None, **more):
    """Lists the representatives, scores them, and adds the candidate."""
    params = load_params(workspace.params)
    adding.run(workspace, params, Asked("new", count, **more))
    listed = pd.read_csv(workspace.root / "prompts-to-score.csv")["prompt"].tolist()
    scores = write(workspace.root / "new.csv", rows_of(prompts or listed, ["new"], metrics, seed=1))
    costs = write(
        workspace.root / "cost.csv", [["new", 3, "seconds"]], ("candidate", "cost", "unit")
    )
    adding.run(workspace, params, Asked("new", count, scores, costs, **more))
    return listed


def test_the_list_is_of_the_train_split_and_nothing_else_is_written(workspace):
    before = Router.load(workspace.router)
    adding.run(workspace, load_params(workspace.params), Asked("new", 40))
    listed = pd.read_csv(workspace.root / "prompts-to-score.csv")
    assert listed["split"].tolist() == ["train"] * 40
    assert Router.load(workspace.router).candidates == before.candidates == ["cheap", "dear"]


def test_the_router_routes_to_it_and_says_of_the_others_what_it_said(workspace):
    before = Router.load(workspace.router)
    add(workspace)
    router = Router.load(workspace.router)
    assert router.candidates == ["cheap", "new", "dear"]
    assert router.costs.tolist() == [1, 3, 10]
    prompts = ["plain scene number 1001", "crowded scene number 1002"]
    assert np.array_equal(router.predict(prompts)[:, [0, 2]], before.predict(prompts))
    assert [d.candidate for d in router.route(prompts, lam=0.0)] == ["new", "dear"]


def test_scores_get_holes_and_the_parameters_allow_them(workspace):
    listed = add(workspace)
    scores = read_table(workspace.scores, SCORES, "label")
    assert (scores["candidate"] == "new").sum() == 2 * len(listed)
    assert read_table(workspace.candidates, CANDIDATES, "generate").query("candidate == 'new'")[
        "cost"
    ].tolist() == [3]
    assert load_params(workspace.params).validation.complete_labels is False


def test_every_estimator_of_every_metric_has_it(workspace):
    add(workspace)
    for metric in ("quality", "error"):
        meta = json.loads((workspace.estimators / metric / "ridge" / "estimator.json").read_text())
        assert meta["candidates"] == ["cheap", "new", "dear"]
        assert meta["added"] == ["new"]
        held = pd.read_parquet(workspace.estimators / metric / "ridge" / "out_of_fold.parquet")
        assert list(held.columns) == ["prompt_id", "cheap", "new", "dear"]
        assert np.isfinite(held.iloc[:, 1:].to_numpy()).all()


def test_what_it_says_of_a_labelled_prompt_was_not_learned_from_it(workspace):
    add(workspace)
    held = pd.read_parquet(workspace.estimators / "quality" / "ridge" / "out_of_fold.parquet")
    table = read_table(workspace.prompts, PROMPTS, "sample").set_index("prompt_id")
    crowded = table.loc[held["prompt_id"], "prompt"].str.startswith("crowded").to_numpy()
    assert held["new"][~crowded].mean() == pytest.approx(0.8, abs=0.05)
    assert held["new"][crowded].mean() == pytest.approx(0.2, abs=0.05)


def test_evaluate_judges_it_where_its_scores_are(workspace, capsys):
    add(workspace, judge=True)
    assert "judges it on all test prompts" in capsys.readouterr().out
    evaluate.run(workspace, load_params(workspace.params))
    document = json.loads((workspace.reports / "metrics.json").read_text())
    assert [c["candidate"] for c in document["candidates"]] == ["cheap", "new", "dear"]
    assert document["methods"]["ridge"]["max_quality"] == pytest.approx(0.75, abs=0.03)


def test_without_judging_it_says_that_evaluate_cannot(workspace, capsys):
    add(workspace)
    assert "no test prompt has its score" in capsys.readouterr().out


def test_the_command_says_which_prompts_to_score(workspace):
    result = CliRunner().invoke(
        app, ["add-candidate", "new", "--prompts", "30", "--workspace", str(workspace.root)]
    )
    assert result.exit_code == 0, result.output
    assert "prompts-to-score.csv has the 30 prompts to score" in result.output


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked("dear"), "has a candidate 'dear' already"),
        (Asked("new", 5), "--prompts 5: name a number from 20 to"),
        (Asked("new", 100_000), "the prompts of the train split"),
    ],
)
def test_what_cannot_be_added(workspace, asked, message):
    with pytest.raises(InputError, match=message):
        adding.run(workspace, load_params(workspace.params), asked)


def test_files_that_do_not_tell_what_is_needed_change_nothing(workspace):
    train_prompts = (
        read_table(workspace.prompts, PROMPTS, "sample")
        .query("split == 'train'")["prompt"]
        .tolist()
    )
    params, before = load_params(workspace.params), workspace.scores.read_bytes()
    costs = write(
        workspace.root / "cost.csv", [["new", 3, "seconds"]], ("candidate", "cost", "unit")
    )
    dollars = write(workspace.root / "usd.csv", [["new", 3, "usd"]], ("candidate", "cost", "unit"))
    good = write(
        workspace.root / "good.csv", rows_of(train_prompts[:40], ["new"], ("quality", "error"))
    )
    cases = [
        (
            write(workspace.root / "a.csv", rows_of(train_prompts[:40], ["dear"])),
            costs,
            "no scores of the candidate 'new'",
        ),
        (
            write(workspace.root / "b.csv", rows_of(["a strange prompt"], ["new"])),
            costs,
            "row 2: the workspace has no such prompt",
        ),
        (
            write(workspace.root / "c.csv", rows_of(train_prompts[:40], ["new"])),
            costs,
            "no score by error",
        ),
        (
            write(
                workspace.root / "d.csv", rows_of(train_prompts[:9], ["new"], ("quality", "error"))
            ),
            costs,
            "and 20 are needed at least",
        ),
        (good, dollars, "no cost of 'new' in the unit 'seconds': it has usd"),
        (good, None, "--costs: say what 'new' costs in 'seconds'"),
    ]
    for scores, prices, message in cases:
        with pytest.raises(InputError, match=message):
            adding.run(workspace, params, Asked("new", 40, scores, prices))
    assert workspace.scores.read_bytes() == before
    assert Router.load(workspace.router).candidates == ["cheap", "dear"]


def test_a_router_of_other_data(workspace):
    from catimage.data.schema import write_table

    table = read_table(workspace.candidates, CANDIDATES, "generate")
    write_table(table[table["candidate"] != "dear"], workspace.candidates, CANDIDATES)
    with pytest.raises(InputError, match=r"of other data than .* 'dear'"):
        adding.run(workspace, load_params(workspace.params), Asked("new", 40))


def test_an_estimator_that_is_not_trained_any_more(workspace):
    import shutil

    shutil.rmtree(workspace.estimators / "quality" / "ridge")
    with pytest.raises(
        InputError, match="routes by 'ridge', which is not trained any more: calibrate again first"
    ):
        adding.run(workspace, load_params(workspace.params), Asked("new", 40))


@pytest.mark.parametrize(
    "setting", ["calibrate.quality_floor=0.3", "calibrate.floors={error: 0.9}"]
)
def test_floors_need_scores_of_the_validation_prompts(workspace, setting):
    params = load_params(workspace.params, [setting])
    with pytest.raises(
        InputError, match="is judged by scores of the validation prompts: give --judge"
    ):
        adding.run(workspace, params, Asked("new", 40))
    assert not (workspace.root / "prompts-to-score.csv").exists()
    adding.run(workspace, params, Asked("new", 40, judge=True))
    assert "val" in set(pd.read_csv(workspace.root / "prompts-to-score.csv")["split"])

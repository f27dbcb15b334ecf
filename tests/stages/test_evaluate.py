import csv
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from catimage.commands import import_scores as importing
from catimage.data.schema import IMAGES, PROMPTS, SCORES, read_table, write_table
from catimage.data.shards.manifest import ShardEntry, write_manifest
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import encode_image, write_shard
from catimage.errors import InputError
from catimage.evaluation.operating_point import rule_at
from catimage.evaluation.shown_samples import first_images, reference_candidate
from catimage.params import load_params
from catimage.router import Router
from catimage.stages import calibrate, evaluate, train
from catimage.workspace import Workspace
from tests.built import COST, build

QUALITY = {"cheap": (0.62, 0.30), "dear": (0.60, 0.70)}


def write_scores(path, n, seed=0, candidates=("cheap", "dear")):
    """Plain and crowded prompts with a known right answer, by ``quality`` and by its mirror image
    ``error``.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        prompt = f"{('plain', 'crowded')[i % 2]} scene number {seed * n + i}"
        for candidate in candidates:
            value = QUALITY[candidate][i % 2] + rng.normal(0, 0.02)
            rows += [
                [prompt, candidate, 0, "quality", value],
                [prompt, candidate, 0, "error", 1 - value],
            ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "candidate", "seed", "metric", "value"], *rows])
    return path


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A workspace on imported scores, both metrics trained, calibrated to 60% and evaluated."""
    root = tmp_path_factory.mktemp("imported")
    (root / "costs.csv").write_text("candidate,cost,unit\ncheap,1,seconds\ndear,10,seconds\n")
    settings = [
        "metric=quality",
        "budget=60%",
        "train.metrics=[error]",
        "import.lower_is_better=[error]",
        "evaluate.bootstrap=300",
    ]
    workspace = Workspace(root / "w")
    importing.run(workspace, write_scores(root / "scores.csv", 500), root / "costs.csv", settings)
    workspace.reports.mkdir()
    (workspace.reports / "validation.json").write_text('{"success": true}')
    params = load_params(workspace.params)
    for stage in (train, calibrate, evaluate):
        stage.run(workspace, params)
    return workspace, params


def document_of(workspace):
    return json.loads((workspace.reports / "metrics.json").read_text())


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The miniature workspace with its images, evaluated."""
    workspace, params = build(tmp_path_factory.mktemp("own"))
    test = read_table(workspace.prompts, PROMPTS, "sample").query("split == 'test'")
    workspace.images.mkdir(parents=True)
    entries = []
    for colour, name in zip((0, 100, 200), COST, strict=True):
        prompts = tuple(zip(test["prompt_id"], test["prompt"], strict=True))
        plan = ShardPlan(name, {"kind": "painted"}, 1, prompts, (1, 0), 4)
        rows = [
            (i, name, s, encode_image(np.full((4, 4, 3), colour + s, np.uint8)), 0.1)
            for i, _ in prompts
            for s in plan.seeds
        ]
        table = pa.Table.from_pylist(
            [dict(zip(IMAGES.names, row, strict=True)) for row in rows], schema=IMAGES
        )
        entries.append(
            ShardEntry(plan.name, name, len(rows), write_shard(workspace.images, plan, table))
        )
    write_manifest(workspace.images, entries)
    evaluate.run(workspace, params)
    return workspace, params


def test_the_documents_figures_are_the_routers(own):
    workspace, _ = own
    document, router = document_of(workspace), Router.load(workspace.router)
    test = read_table(workspace.prompts, PROMPTS, "sample").query("split == 'test'")
    texts = test["prompt"].tolist()
    choices = router.rule.choices(router.scores(texts, router.predict(texts)), router.costs)
    scores = (
        read_table(workspace.scores, SCORES, "label")
        .groupby(["prompt_id", "candidate"])["value"]
        .mean()
    )
    labels = scores.unstack().loc[test["prompt_id"], router.candidates].to_numpy()
    quality = router.rule.expected(choices, labels)
    shares = router.rule.share @ (choices[:, :, None] == np.arange(3)).mean(axis=1)
    assert document["n_test"] == len(test)
    assert document["budget"]["realised_mean_cost"] == pytest.approx(
        router.rule.expected(choices, router.costs).mean()
    )
    assert document["selection"]["calibrated"] == pytest.approx(shares.tolist())
    assert document["budget"]["realised_quality"] == pytest.approx(np.mean(quality))
    assert (
        document["budget"]["target"] == pytest.approx(2.4)
        and document["budget"]["lambda"] == router.lam
    )
    assert (
        document["best_single"]["candidate"] == "mini-4"
        and document["budget"]["estimator"] == "ridge"
    )
    assert document["methods"]["ridge"]["max_quality"] == pytest.approx(0.66, abs=0.03)
    assert document["oracle_other_seeds_quality"] < document["oracle_quality"]


def test_plots_and_report_are_written(own):
    workspace, _ = own
    deferral = pd.read_csv(workspace.reports / "plots" / "deferral.csv")
    assert set(deferral["method"]) == {"fixed", "mix", "oracle", "ridge"}
    selection = pd.read_csv(workspace.reports / "plots" / "selection.csv")
    assert list(selection.columns) == ["lambda", "candidate", "share"] and set(
        selection["candidate"]
    ) == set(COST)
    assert sorted(p.name for p in (workspace.reports / "plots").glob("*.svg")) == [
        "deferral.svg",
        "predicted.svg",
        "selection.svg",
    ]
    page = (workspace.reports / "report.html").read_text()
    cases = document_of(workspace)["cases"]
    shown = len(cases["successes"]) + len(cases["failures"])
    assert shown > 3 and "Successes and failures" in page
    assert "A few prompts" in page and page.count("data:image/png") == 6 * len(COST) + 2 * shown


def framed_in(section):
    """By prompt, the candidate whose cell is framed."""
    found = {}
    for sample in section.split('<div class="sample">')[1:]:
        cell = re.search(r'<div class="cell chosen">(?:<img[^>]*>)?\s*([\w-]+)<br>', sample)
        found[re.search(r"<blockquote>(.*?)</blockquote>", sample)[1]] = cell[1]
    return found


def test_where_two_lambdas_are_mixed_the_page_shows_what_is_served(own, tmp_path):
    """By its hash, a prompt's frame is on the cheapest or on the best; and the cases are those of
    the rule at their budget.
    """
    workspace = Workspace(shutil.copytree(own[0].root, tmp_path / "mixed"))
    written = json.loads((workspace.router / "router.json").read_text())
    rule = [
        {"share": 0.5, "lambda": 0.0, "multipliers": {}},
        {"share": 0.5, "lambda": 1e9, "multipliers": {}},
    ]
    (workspace.router / "router.json").write_text(
        json.dumps(written | {"rule": rule, "budget": 4.0})
    )
    evaluate.run(workspace, own[1])
    router = Router.load(workspace.router)
    test = read_table(workspace.prompts, PROMPTS, "sample").query("split == 'test'")
    served = {d.prompt: d for d in router.route(test["prompt"].tolist())}
    cases = document_of(workspace)["cases"]
    assert cases["candidate"] == "mini-4" and cases["mean_cost"] == pytest.approx(
        np.mean([d.cost for d in served.values()])
    )
    by_id = dict(zip(test["prompt_id"], test["prompt"], strict=True))
    for case in cases["successes"] + cases["failures"]:
        assert case["candidate"] == served[by_id[case["prompt_id"]]].candidate
    section = (
        (workspace.reports / "report.html")
        .read_text()
        .split('id="samples"')[1]
        .split("</section>")[0]
    )
    framed = framed_in(section)
    assert len(framed) == 6 and framed == {prompt: served[prompt].candidate for prompt in framed}
    assert {served[prompt].lam for prompt in framed} == {0.0, 1e9}


def test_a_router_that_keeps_floors_has_the_cases_of_its_own_budget(own):
    router = Router.load(own[0].router)
    assert rule_at(replace(router, floors={"sharpness": 0.1}), 3.0) is router.rule
    assert (
        rule_at(router, 3.0).to_rows([])
        == router.rule_for(budget=3.0).to_rows([])
        != router.rule.to_rows([])
    )


def test_first_images_have_the_lowest_seed(own):
    workspace, _ = own
    wanted = (
        read_table(workspace.prompts, PROMPTS, "sample")
        .query("split == 'test'")["prompt_id"]
        .tolist()[:2]
    )
    found = first_images(workspace.images, wanted)
    assert set(found) == {(i, name) for i in wanted for name in COST}
    assert found[wanted[0], "mini-2"] == encode_image(np.full((4, 4, 3), 100, np.uint8))


def test_evaluating_twice_gives_the_same_bytes_but_for_the_clock(own):
    workspace, params = own
    before = contents(workspace)
    evaluate.run(workspace, params)
    assert contents(workspace) == before


def contents(workspace):
    """What evaluate wrote; how long a decision took is measured anew each time."""
    document = document_of(workspace)
    assert (
        0 < document["decision_ms"].pop("without_text") < document["decision_ms"].pop("with_text")
    )
    page = re.sub(
        r"and [0-9.e+-]+ ms \([0-9.e+-]+ ms after",
        "",
        (workspace.reports / "report.html").read_text(),
    )
    return json.dumps(document), page, (workspace.reports / "plots" / "deferral.svg").read_bytes()


def test_holes_are_left_out_of_the_judgement_and_counted(own, tmp_path, capsys):
    source, params = own
    workspace = Workspace(shutil.copytree(source.root, tmp_path / "holed"))
    table, prompts = (
        read_table(workspace.scores, SCORES, "label"),
        read_table(workspace.prompts, PROMPTS, "sample"),
    )
    holed = [
        prompts.loc[prompts["split"] == split, "prompt_id"].tolist()[:many]
        for split, many in (("val", 5), ("test", 7), ("train", 3))
    ]
    gone = table["prompt_id"].isin([i for ids in holed for i in ids]) & (
        table["candidate"] == "mini-2"
    )
    write_table(table[~gone], workspace.scores, SCORES)
    with pytest.raises(InputError, match=r"lack a score for some candidate.*complete_labels"):
        evaluate.run(workspace, params)
    loose = params.model_copy(
        update={"validation": params.validation.model_copy(update={"complete_labels": False})}
    )
    n_before = document_of(workspace)["n_test"]
    evaluate.run(workspace, loose)
    document = document_of(workspace)
    assert document["n_test"] == n_before - 7 and document["left_out"] == {
        "validation": 5,
        "test": 7,
    }
    assert (
        "5 validation prompts and 7 test prompts" in (workspace.reports / "report.html").read_text()
    )
    write_table(table[~table["prompt_id"].isin(holed[1][:3])], workspace.scores, SCORES)
    evaluate.run(workspace, loose)
    document = document_of(workspace)
    assert document["n_test"] == n_before - 3 and document["left_out"] == {
        "validation": 0,
        "test": 3,
    }, "those without any label count too"
    write_table(
        table[~(table["candidate"] == "mini-2") | table["prompt_id"].isin(holed[2])],
        workspace.scores,
        SCORES,
    )
    with pytest.raises(
        InputError,
        match="no prompt of the validation split has a clip_score score for every candidate",
    ):
        evaluate.run(workspace, loose)


def test_a_router_whose_estimator_is_gone_is_refused(own, tmp_path):
    workspace = Workspace(shutil.copytree(own[0].root, tmp_path / "gone"))
    (workspace.estimators / "clip_score" / "ridge").rename(
        workspace.estimators / "clip_score" / "other"
    )
    with pytest.raises(
        InputError, match=r"routes by 'ridge', which is not trained any more \(but other\)"
    ):
        evaluate.run(workspace, own[1])


def test_the_cases_are_held_against_the_pools_reference_condition(own, imported):
    assert (
        document_of(own[0])["cases"]["candidate"] == document_of(own[0])["best_single"]["candidate"]
    )
    pool = own[0].pools / "miniature.yaml"
    before = pool.read_text()
    pool.write_text(before + "reference_condition: mini-2\n")
    assert (
        reference_candidate(*own, "mini-4", list(COST)) == "mini-2"
        and reference_candidate(*own, "mini-4", ["mini-4"]) == "mini-4"
    )
    pool.write_text(before)
    assert reference_candidate(*imported, "dear", ["cheap", "dear"]) == "dear"


def test_with_two_seeds_there_are_noise_and_with_nearest_neighbours_trials(own, imported, tmp_path):
    document = document_of(own[0])
    assert document["noise"]["seeds"] == 2 and set(document["noise"]["captured"]) == {"ridge"}
    assert (
        document["trials"] is None and "add knn to train.estimators" in document["trials_left_out"]
    )
    one = document_of(imported[0])
    assert (
        one["noise"] is None
        and one["trials"] is None
        and "1 seed, and S (1, 3)" in one["trials_left_out"]
        and one["subsets"] == []
    )


def test_trials_of_a_trained_nearest_neighbours_estimator(tmp_path):
    near = {"name": "near", "kind": "knn", "settings": {"n_neighbors": 12}}
    workspace, params = build(
        tmp_path / "near",
        train={"estimators": [near], "folds": 0},
        evaluate={"trials": 20, "bootstrap": 200},
    )
    evaluate.run(workspace, params)
    document = document_of(workspace)
    trials = document["trials"]
    assert (
        trials["estimator"] == "near"
        and trials["n_neighbors"] == 12
        and trials["seeds"] == 2
        and trials["left_out"] == [3]
    )
    (table,) = trials["by_size"]
    assert (
        table["size"] == 1
        and table["n_train"]
        == (read_table(workspace.prompts, PROMPTS, "sample")["split"] == "train").sum()
    )
    for row, candidate, ours in zip(
        table["by_candidate"],
        document["candidates"],
        document["methods"]["near"]["by_candidate"],
        strict=True,
    ):
        assert (
            row["fixed_quality"] == pytest.approx(candidate["quality"])
            and row["wins"] + row["losses"] <= 20
        )
        assert (
            row["quality"] == pytest.approx(ours["quality_at_cost"], abs=0.02) and row["sd"] < 0.02
        )  # all seeds, and one of them
    page = (workspace.reports / "report.html").read_text()
    assert "How many seeds a training prompt needs" in page and "Luck of the seeds" in page


def test_sets_that_cannot_be_judged_are_named(own, imported, capsys):
    assert document_of(own[0])["sets"] is None
    for (workspace, params), reason in (
        (own, "knows captions of its scenes alone"),
        (imported, "of 0 test prompts every candidate has images"),
    ):
        before = (workspace.reports / "metrics.json").read_bytes()
        evaluate.run(
            workspace,
            params.model_copy(
                update={
                    "evaluate": params.evaluate.model_copy(update={"set_metrics": ["kid_tiny"]})
                }
            ),
        )
        sets = document_of(workspace)["sets"]
        assert sets["metrics"] == {} and reason in sets["left_out"][0]
        assert f"Left out: {sets['left_out'][0]}" in capsys.readouterr().out
        (workspace.reports / "metrics.json").write_bytes(before)


def test_imported_metrics_lower_is_better(imported):
    document = document_of(imported[0])
    quality, error = document["by_metric"]["quality"], document["by_metric"]["error"]
    assert (
        list(document["by_metric"]) == ["quality", "error"]
        and document["methods"] == quality["methods"]
    )
    assert error["lower_is_better"] is True and document["lower_is_better"] is False
    assert error["oracle_quality"] == pytest.approx(quality["oracle_quality"] - 1)
    assert error["best_single"]["candidate"] == quality["best_single"]["candidate"] == "dear"
    assert document["oracle_other_seeds_quality"] is None


def test_other_scores_are_the_test_split(imported, capsys):
    workspace, params = imported
    own_n = document_of(workspace)["n_test"]
    other = write_scores(workspace.root / "other.csv", 120, seed=7)
    evaluate.run(workspace, params, other)
    document = document_of(workspace)
    assert document["n_test"] == 120 and own_n < 80
    assert document["methods"]["ridge"]["selected"]["match"]["cost_ratio"] == pytest.approx(
        0.55, abs=0.05
    )
    assert "flatter" not in capsys.readouterr().out
    evaluate.run(workspace, params, workspace.root.parent / "scores.csv")
    assert (
        document_of(workspace)["n_test"] == 500
        and "were trained or calibrated on" in capsys.readouterr().out
    )


def test_bad_scores_leave_the_reports_as_they_were(imported):
    workspace, params = imported
    before = (workspace.reports / "metrics.json").read_bytes()
    bad = write_scores(workspace.root / "bad.csv", 20, candidates=("cheap",))
    with pytest.raises(InputError, match=r"bad\.csv.*dear"):
        evaluate.run(workspace, params, bad)
    assert (workspace.reports / "metrics.json").read_bytes() == before


def test_a_router_for_another_metric_is_refused(imported):
    workspace, params = imported
    with pytest.raises(InputError, match=r"metric is 'error'.*calibrate again"):
        evaluate.run(workspace, params.model_copy(update={"metric": "error"}))


def test_without_a_test_split_it_says_so(imported, tmp_path):
    workspace, params = imported
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    other = Workspace(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "models").symlink_to(workspace.root / "models")
    (tmp_path / "data" / "scores.parquet").symlink_to(workspace.scores)
    write_table(prompts[prompts["split"] != "test"], other.prompts, PROMPTS)
    with pytest.raises(InputError, match="test split is empty"):
        evaluate.run(other, params)


def test_without_a_router_it_names_the_stage(tmp_path, imported):
    with pytest.raises(InputError, match="catimage calibrate"):
        evaluate.run(Workspace(tmp_path), imported[1])


def test_numbers_stand_on_one_line():
    text = evaluate.as_json(
        {"curve": [[1.0, 2.0, None], [3.0, 4.0, 0.1]], "a": "[\n 1 ]", "none": []}
    )
    assert "[1.0, 2.0, null]" in text and json.loads(text) == {
        "curve": [[1.0, 2.0, None], [3.0, 4.0, 0.1]],
        "a": "[\n 1 ]",
        "none": [],
    }

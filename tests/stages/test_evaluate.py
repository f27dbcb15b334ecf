import csv
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from catimage.commands import import_scores
from catimage.common.formatting import format_json
from catimage.data.schema import IMAGES, PROMPTS, SCORES, read_table, write_table
from catimage.data.shards.images import first_images
from catimage.data.shards.manifest import ShardEntry, write_manifest
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import encode_image, write_shard
from catimage.data.traffic import OUTCOMES, write_traffic
from catimage.errors import InputError
from catimage.evaluation.document import cases_candidate
from catimage.evaluation.off_policy.document import off_policy_document
from catimage.evaluation.operating_point import rule_at
from catimage.params import load_params
from catimage.router import Router
from catimage.stages import calibrate, evaluate, train
from catimage.workspace import Workspace
from tests.evaluation.off_policy.test_document import outcomes_of
from tests.provenance import mark_validated, record_inputs
from tests.trained_workspace import COSTS, train_workspace

QUALITY = {"cheap": (0.62, 0.30), "expensive": (0.60, 0.70)}


def write_scores(path, n, seed=0, candidates=("cheap", "expensive")):
    """Write scores of two metrics, ``quality`` and ``error``, which is 1 minus the quality.

    The prompts are alternately plain and crowded.
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
    """An evaluated workspace with imported scores, two trained metrics and a budget of 60%."""
    root = tmp_path_factory.mktemp("imported")
    costs = root / "costs.csv"
    costs.write_text("candidate,cost,unit\ncheap,1,seconds\nexpensive,10,seconds\n")
    settings = [
        "metric=quality",
        "budget=60%",
        "train.metrics=[error]",
        "import.lower_is_better=[error]",
        "evaluate.bootstrap=300",
    ]
    workspace = Workspace(root / "w")
    import_scores.run(workspace, write_scores(root / "scores.csv", 500), costs, settings)
    mark_validated(workspace)
    params = load_params(workspace.params)
    for stage in (train, calibrate, evaluate):
        stage.run(workspace, params)
    return workspace, params


def document_of(workspace):
    return json.loads((workspace.reports / "metrics.json").read_text())


def prompts_in_test(workspace):
    return read_table(workspace.prompts, PROMPTS, "sample").query("split == 'test'")


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    """An evaluated workspace of the miniature pool, with images of one colour per candidate."""
    workspace, params = train_workspace(tmp_path_factory.mktemp("miniature"))
    test = prompts_in_test(workspace)
    workspace.images.mkdir(parents=True)
    entries = []
    for colour, name in zip((0, 100, 200), COSTS, strict=True):
        prompts = tuple(zip(test["prompt_id"], test["prompt"], strict=True))
        plan = ShardPlan(name, {"kind": "painted"}, 1, prompts, (1, 0), 4)
        rows = [
            (i, name, s, encode_image(np.full((4, 4, 3), colour + s, np.uint8)), 0.1)
            for i, _ in prompts
            for s in plan.seeds
        ]
        records = [dict(zip(IMAGES.names, row, strict=True)) for row in rows]
        table = pa.Table.from_pylist(records, schema=IMAGES)
        digest = write_shard(workspace.images, plan, table)
        entries.append(ShardEntry(plan.name, name, len(rows), digest))
    write_manifest(workspace.images, entries)
    record_inputs(workspace)
    evaluate.run(workspace, params)
    return workspace, params


def copy_of(miniature, folder):
    """Return a copy of the workspace of the fixture ``miniature``."""
    return Workspace(shutil.copytree(miniature[0].root, folder))


def test_the_statistics_of_the_document_are_those_of_the_router(miniature):
    workspace, _ = miniature
    document, router = document_of(workspace), Router.load(workspace.router)
    test = prompts_in_test(workspace)
    texts = test["prompt"].tolist()
    chosen_by_part = router.rule.choose_by_part(
        router.rule_inputs(texts, router.predict(texts)), router.costs
    )
    scores = read_table(workspace.scores, SCORES, "label")
    means = scores.groupby(["prompt_id", "candidate"])["value"].mean().unstack()
    labels = means.loc[test["prompt_id"], router.candidates].to_numpy()
    quality = router.rule.expected(chosen_by_part, labels)
    cost = router.rule.expected(chosen_by_part, router.costs)
    shares = router.rule.share @ (chosen_by_part[:, :, None] == np.arange(3)).mean(axis=1)
    assert document["n_test"] == len(test)
    assert document["budget"]["realised_mean_cost"] == pytest.approx(cost.mean())
    assert document["selection"]["calibrated"] == pytest.approx(shares.tolist())
    assert document["budget"]["realised_quality"] == pytest.approx(np.mean(quality))
    assert document["budget"]["target"] == pytest.approx(2.4)
    assert document["budget"]["lambda"] == router.lam
    assert document["best_single"]["candidate"] == "mini-4"
    assert document["budget"]["estimator"] == "ridge"
    assert document["methods"]["ridge"]["max_quality"] == pytest.approx(0.66, abs=0.03)
    assert document["oracle_other_seeds_quality"] < document["oracle_quality"]


def test_plots_and_report_are_written(miniature):
    workspace, _ = miniature
    plots = workspace.reports / "plots"
    deferral = pd.read_csv(plots / "deferral.csv")
    assert set(deferral["method"]) == {"fixed", "mix", "oracle", "ridge"}
    selection = pd.read_csv(plots / "selection.csv")
    assert list(selection.columns) == ["lambda", "candidate", "share"]
    assert set(selection["candidate"]) == set(COSTS)
    drawn = ["deferral.svg", "predicted.svg", "selection.svg"]
    assert sorted(p.name for p in plots.glob("*.svg")) == drawn
    page = (workspace.reports / "report.html").read_text()
    cases = document_of(workspace)["cases"]
    shown = len(cases["successes"]) + len(cases["failures"])
    assert shown > 3
    assert "Successes and failures" in page
    assert "Sample prompts" in page
    assert page.count("data:image/png") == 6 * len(COSTS) + 2 * shown


def framed_in(section):
    """Return the candidate with a framed cell for each prompt in a section of the report."""
    framed = {}
    for sample in section.split('<div class="sample">')[1:]:
        cell = re.search(r'<div class="cell chosen">(?:<img[^>]*>)?\s*([\w-]+)<br>', sample)
        framed[re.search(r"<blockquote>(.*?)</blockquote>", sample)[1]] = cell[1]
    return framed


def test_the_report_of_a_randomized_rule_shows_the_served_candidates(miniature, tmp_path):
    """The rule serves the candidate with the best predicted quality to half of the prompts, drawn
    with the seed of the evaluation, and the cheapest candidate to the others.
    """
    workspace = copy_of(miniature, tmp_path / "mixed")
    router_file = workspace.router / "router.json"
    rule = [
        {"share": 0.5, "lambda": 0.0, "multipliers": {}},
        {"share": 0.5, "lambda": 1e9, "multipliers": {}},
    ]
    document = json.loads(router_file.read_text())
    router_file.write_text(json.dumps(document | {"rule": rule, "budget": 4.0}))
    evaluate.run(workspace, miniature[1])
    router, test = Router.load(workspace.router), prompts_in_test(workspace)
    seed, ids = miniature[1].evaluate.seed, test["prompt_id"].tolist()
    decisions = router.route(test["prompt"].tolist(), seed=seed, request_ids=ids)
    served = {d.prompt: d for d in decisions}
    cases = document_of(workspace)["cases"]
    assert cases["candidate"] == "mini-4"
    assert cases["mean_cost"] == pytest.approx(np.mean([d.cost for d in served.values()]))
    by_id = dict(zip(test["prompt_id"], test["prompt"], strict=True))
    for case in cases["successes"] + cases["failures"]:
        assert case["candidate"] == served[by_id[case["prompt_id"]]].candidate
    page = (workspace.reports / "report.html").read_text()
    framed = framed_in(page.split('id="samples"')[1].split("</section>")[0])
    assert len(framed) == 6
    assert framed == {prompt: served[prompt].candidate for prompt in framed}
    assert {served[prompt].lam for prompt in framed} == {0.0, 1e9}


def test_the_rule_of_a_router_with_floors_does_not_depend_on_the_budget(miniature):
    router = Router.load(miniature[0].router)
    assert rule_at(replace(router, floors={"sharpness": 0.1}), 3.0) is router.rule
    rows = rule_at(router, 3.0).to_rows([])
    assert rows == router.rule_for(budget=3.0).to_rows([])
    assert rows != router.rule.to_rows([])


def test_first_images_have_the_lowest_seed(miniature):
    workspace, _ = miniature
    ids = prompts_in_test(workspace)["prompt_id"].tolist()[:2]
    images = first_images(workspace.images, ids)
    assert set(images) == {(i, name) for i in ids for name in COSTS}
    assert images[ids[0], "mini-2"] == encode_image(np.full((4, 4, 3), 100, np.uint8))


def test_evaluating_twice_gives_the_same_files_except_for_times(miniature):
    workspace, params = miniature
    before = outputs_without_times(workspace)
    evaluate.run(workspace, params)
    assert outputs_without_times(workspace) == before


def outputs_without_times(workspace):
    """Return the document, the report and a figure, without the measured milliseconds."""
    document = document_of(workspace)
    ms = document.pop("decision_ms")
    assert 0 < ms["without_text"] < ms["with_text"]
    page = (workspace.reports / "report.html").read_text()
    page = re.sub(r"and [0-9.e+-]+ ms \([0-9.e+-]+ ms after", "", page)
    return json.dumps(document), page, (workspace.reports / "plots" / "deferral.svg").read_bytes()


def without_complete_labels(params):
    validation = params.validation.model_copy(update={"complete_labels": False})
    return params.model_copy(update={"validation": validation})


def test_prompts_with_missing_labels_are_left_out_and_counted(miniature, tmp_path):
    workspace, params = copy_of(miniature, tmp_path / "missing"), miniature[1]
    scores = read_table(workspace.scores, SCORES, "label")
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    val, test, train_ids = (
        prompts.loc[prompts["split"] == split, "prompt_id"].tolist()[:n]
        for split, n in (("val", 5), ("test", 7), ("train", 3))
    )
    of_mini_2 = scores["candidate"] == "mini-2"
    missing = scores["prompt_id"].isin(val + test + train_ids) & of_mini_2
    write_table(scores[~missing], workspace.scores, SCORES)
    record_inputs(workspace)
    message = r"lack a score for at least one candidate.*complete_labels"
    with pytest.raises(InputError, match=message):
        evaluate.run(workspace, params)
    params = without_complete_labels(params)
    n_before = document_of(workspace)["n_test"]
    evaluate.run(workspace, params)
    document = document_of(workspace)
    assert document["n_test"] == n_before - 7
    assert document["left_out"] == {"validation": 5, "test": 7}
    page = (workspace.reports / "report.html").read_text()
    assert "5 validation prompts and 7 test prompts" in page
    write_table(scores[~scores["prompt_id"].isin(test[:3])], workspace.scores, SCORES)
    record_inputs(workspace)
    evaluate.run(workspace, params)
    document = document_of(workspace)
    assert document["n_test"] == n_before - 3
    assert document["left_out"] == {"validation": 0, "test": 3}, (
        "prompts without any label are counted"
    )
    write_table(scores[~of_mini_2 | scores["prompt_id"].isin(train_ids)], workspace.scores, SCORES)
    record_inputs(workspace)
    message = "no prompt of the validation split has a clip_score score for every candidate"
    with pytest.raises(InputError, match=message):
        evaluate.run(workspace, params)


def test_a_router_whose_estimator_was_removed_is_refused(miniature, tmp_path):
    workspace = copy_of(miniature, tmp_path / "removed")
    folder = workspace.estimators / "clip_score"
    (folder / "ridge").rename(folder / "other")
    message = r"router: was computed from another version of models/estimators\. Run 'catimage cal"
    with pytest.raises(InputError, match=message):
        evaluate.run(workspace, miniature[1])
    record_inputs(workspace)
    message = r"its estimator 'ridge' is no longer trained \(trained estimators: other\)"
    with pytest.raises(InputError, match=message):
        evaluate.run(workspace, miniature[1])


def test_the_router_is_compared_with_the_reference_condition_of_the_pool(
    miniature, imported, tmp_path
):
    document = document_of(miniature[0])
    assert document["cases"]["candidate"] == document["best_single"]["candidate"] == "mini-4"
    assert cases_candidate("mini-2", document, list(COSTS)) == "mini-2"
    assert cases_candidate("mini-2", document, ["mini-4"]) == "mini-4"
    workspace = copy_of(miniature, tmp_path / "reference")
    with (workspace.pools / "miniature.yaml").open("a") as pool:
        pool.write("reference_condition: mini-2\n")
    evaluate.run(workspace, miniature[1])
    assert document_of(workspace)["cases"]["candidate"] == "mini-2"
    assert document_of(imported[0])["cases"]["candidate"] == "expensive"


def test_noise_needs_two_seeds_and_trials_a_nearest_neighbours_estimator(miniature, imported):
    document = document_of(miniature[0])
    assert document["noise"]["seeds"] == 2
    assert set(document["noise"]["captured"]) == {"ridge"}
    assert document["trials"] is None
    assert "Add 'knn' to train.estimators" in document["trials_left_out"]
    one_seed = document_of(imported[0])
    assert one_seed["noise"] is None
    assert one_seed["trials"] is None
    reason = one_seed["trials_left_out"]
    assert "1 seed, and no value of evaluate.trial_seeds (1, 3) is smaller" in reason
    assert one_seed["subsets"] == []


def test_trials_of_a_trained_nearest_neighbours_estimator(tmp_path):
    near = {"name": "near", "kind": "knn", "settings": {"n_neighbors": 12}}
    workspace, params = train_workspace(
        tmp_path / "near",
        train={"estimators": [near], "folds": 0},
        evaluate={"trials": 20, "bootstrap": 200},
    )
    evaluate.run(workspace, params)
    document = document_of(workspace)
    trials = document["trials"]
    assert trials["estimator"] == "near"
    assert trials["n_neighbors"] == 12
    assert trials["seeds"] == 2
    assert trials["left_out"] == [3]
    (table,) = trials["by_size"]
    splits = read_table(workspace.prompts, PROMPTS, "sample")["split"]
    assert table["size"] == 1
    assert table["n_train"] == (splits == "train").sum()
    for row, candidate, routed in zip(
        table["by_candidate"],
        document["candidates"],
        document["methods"]["near"]["by_candidate"],
        strict=True,
    ):
        assert row["fixed_quality"] == pytest.approx(candidate["quality"])
        assert row["wins"] + row["losses"] <= 20
        # One seed per prompt gives nearly the same estimator as all seeds.
        assert row["quality"] == pytest.approx(routed["quality_at_cost"], abs=0.02)
        assert row["sd"] < 0.02
    page = (workspace.reports / "report.html").read_text()
    assert "Seeds per training prompt" in page
    assert "Noise of the seeds" in page


def test_set_metrics_that_cannot_be_evaluated_are_printed_with_a_reason(
    miniature, imported, capsys
):
    assert document_of(miniature[0])["sets"] is None
    for (workspace, params), reason in (
        (miniature, "trained only on captions of its scenes"),
        (imported, "0 test prompts have images of every candidate"),
    ):
        before = (workspace.reports / "metrics.json").read_bytes()
        section = params.evaluate.model_copy(update={"set_metrics": ["kid_tiny"]})
        evaluate.run(workspace, params.model_copy(update={"evaluate": section}))
        sets = document_of(workspace)["sets"]
        assert sets["metrics"] == {}
        assert reason in sets["left_out"][0]
        assert f"Left out: {sets['left_out'][0]}" in capsys.readouterr().out
        (workspace.reports / "metrics.json").write_bytes(before)


def test_imported_metrics_that_are_lower_is_better_are_negated(imported):
    document = document_of(imported[0])
    quality, error = document["by_metric"]["quality"], document["by_metric"]["error"]
    assert list(document["by_metric"]) == ["quality", "error"]
    assert document["methods"] == quality["methods"]
    assert error["lower_is_better"] is True
    assert document["lower_is_better"] is False
    assert error["oracle_quality"] == pytest.approx(quality["oracle_quality"] - 1)
    assert error["best_single"]["candidate"] == quality["best_single"]["candidate"] == "expensive"
    assert document["oracle_other_seeds_quality"] is None


def test_a_scores_file_replaces_the_test_split(imported, capsys):
    workspace, params = imported
    of_test_split = (workspace.reports / "metrics.json").read_bytes()
    evaluate.run(workspace, params, write_scores(workspace.root / "other.csv", 120, seed=7))
    document = json.loads((workspace.reports / "other" / "metrics.json").read_text())
    assert document["n_test"] == 120
    assert json.loads(of_test_split)["n_test"] < 80
    assert (workspace.reports / "metrics.json").read_bytes() == of_test_split
    assert (workspace.reports / "other" / "report.html").exists()
    ratio = document["methods"]["ridge"]["selected"]["match"]["cost_ratio"]
    assert ratio == pytest.approx(0.55, abs=0.05)
    assert "optimistic" not in capsys.readouterr().out
    evaluate.run(workspace, params, workspace.root.parent / "scores.csv")
    repeated = json.loads((workspace.reports / "other" / "metrics.json").read_text())
    assert repeated["n_test"] == 500
    out = capsys.readouterr().out
    assert "are in the train or validation split, so that the results are optimistic." in out


def test_a_scores_file_may_have_one_column_per_candidate(imported):
    workspace, params = imported
    path = write_scores(workspace.root / "long.csv", 60, seed=8)
    long = pd.read_csv(path).query("metric == 'quality'")
    wide = long.pivot_table(index=["prompt", "seed"], columns="candidate", values="value")
    wide.reset_index().to_parquet(workspace.root / "wide.parquet")
    documents = []
    for file in (path, workspace.root / "wide.parquet"):
        evaluate.run(workspace, params, file)
        documents.append(json.loads((workspace.reports / "other" / "metrics.json").read_text()))
    assert documents[0]["n_test"] == documents[1]["n_test"] == 60
    assert documents[0]["budget"]["realised_quality"] == pytest.approx(
        documents[1]["budget"]["realised_quality"]
    )


def test_an_incomplete_scores_file_leaves_the_reports_unchanged(imported):
    workspace, params = imported
    before = (workspace.reports / "metrics.json").read_bytes()
    incomplete = write_scores(workspace.root / "bad.csv", 20, candidates=("cheap",))
    with pytest.raises(InputError, match=r"bad\.csv.*expensive"):
        evaluate.run(workspace, params, incomplete)
    assert (workspace.reports / "metrics.json").read_bytes() == before


def test_a_router_for_another_metric_is_refused(imported):
    workspace, params = imported
    with pytest.raises(
        InputError, match=r"metric is 'error'.*Run 'catimage train' and 'catimage calibrate'"
    ):
        evaluate.run(workspace, params.model_copy(update={"metric": "error"}))


def test_an_empty_test_split_is_refused(imported, tmp_path):
    workspace = Workspace(shutil.copytree(imported[0].root, tmp_path / "w"))
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    write_table(prompts[prompts["split"] != "test"], workspace.prompts, PROMPTS)
    record_inputs(workspace)
    with pytest.raises(InputError, match="no prompt is in the split test"):
        evaluate.run(workspace, imported[1])


def test_a_missing_router_is_reported_with_the_stage_to_run(tmp_path, imported):
    with pytest.raises(InputError, match="catimage calibrate"):
        evaluate.run(Workspace(tmp_path), imported[1])


def test_logged_traffic_is_evaluated_beside_the_test_split(miniature, tmp_path, capsys):
    workspace, params = copy_of(miniature, tmp_path / "copy"), miniature[1]
    recorded = json.loads((workspace.reports / "off_policy.json").read_text())
    assert recorded == {"requests": 0, "inputs": document_of(workspace)["inputs"]}
    assert 'id="off_policy"' not in (workspace.reports / "report.html").read_text()
    seen = read_table(workspace.prompts, PROMPTS, "sample").query("split == 'train'")["prompt"]
    outcomes = outcomes_of(400)
    outcomes.loc[0, "prompt"] = seen.iloc[0]
    write_traffic(outcomes, workspace.outcomes, OUTCOMES)
    evaluate.run(workspace, params)
    assert "Logged traffic: on 399 scored requests" in capsys.readouterr().out
    recorded = json.loads((workspace.reports / "off_policy.json").read_text())
    assert recorded["requests"] == 399 and sum(recorded["left_out"].values()) == 1
    router = Router.load(workspace.router)
    expected = off_policy_document(router, outcomes, list(seen), False, params.evaluate)
    assert {key: value for key, value in recorded.items() if key != "inputs"} == json.loads(
        format_json(expected)
    )
    page = (workspace.reports / "report.html").read_text()
    section = page.split('id="off_policy"')[1].split("</section>")[0]
    robust = recorded["challenger"]["doubly_robust"]["quality"]["value"]
    assert f"<td>{robust:.4g}</td>" in section and "test split" in section
    before = (workspace.reports / "off_policy.json").read_bytes()
    evaluate.run(workspace, params)
    assert (workspace.reports / "off_policy.json").read_bytes() == before


def test_the_report_has_the_reason_if_logged_traffic_has_no_support(miniature, tmp_path):
    workspace = copy_of(miniature, tmp_path / "copy")
    write_traffic(outcomes_of(30, explore=0.0), workspace.outcomes, OUTCOMES)
    evaluate.run(workspace, miniature[1])
    section = (workspace.reports / "report.html").read_text().split('id="off_policy"')[1]
    assert "Set serving.explore above 0" in section.split("</section>")[0]

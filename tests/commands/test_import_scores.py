import csv

import pytest

from catimage.commands import import_scores as importing
from catimage.data.schema import (
    CANDIDATES,
    PROMPTS,
    SCORES,
    costs_of,
    labels_of,
    read_table,
    scores_array,
)
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import Workspace


@pytest.fixture
def files(tmp_path):
    """Writes scores of four prompts by the given metrics, and costs in the given units; returns
    both paths.
    """

    def write(metrics=("quality",), units=("seconds",), holes=(), priced=("cheap", "dear")):
        scores, costs = tmp_path / "scores.csv", tmp_path / "costs.csv"
        rows = [
            [f"a scene {i}", c, s, m, i + s]
            for i in range(4)
            for c in ("cheap", "dear")
            for s in (0, 1)
            for m in metrics
        ]
        with scores.open("w", newline="") as file:
            csv.writer(file).writerows(
                [
                    ["prompt", "candidate", "seed", "metric", "value"],
                    *(r for r in rows if (*r[:2], r[3]) not in holes),
                ]
            )
        with costs.open("w", newline="") as file:
            csv.writer(file).writerows(
                [
                    ["candidate", "cost", "unit"],
                    *([c, 1 + 2 * j, u] for u in units for j, c in enumerate(priced)),
                ]
            )
        return scores, costs

    return write


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def tables(workspace):
    paths = (
        (workspace.prompts, PROMPTS),
        (workspace.candidates, CANDIDATES),
        (workspace.scores, SCORES),
    )
    return [read_table(path, schema, "import-scores") for path, schema in paths]


def trained(params):
    return [e.name for e in params.train.estimators]


def test_the_tables_and_parameters_are_written(files, workspace):
    importing.run(workspace, *files(), [])
    prompts, candidates, scores = tables(workspace)
    names, costs = costs_of(candidates, "seconds")
    assert (names, costs.tolist()) == (["cheap", "dear"], [1.0, 3.0])
    assert candidates[["generator", "steps"]].to_numpy().tolist() == [["cheap", 0], ["dear", 0]]
    assert set(scores["version"]) == {"imported"}
    labels = labels_of(scores_array(scores, "quality", prompts["prompt_id"].tolist(), names))
    assert labels.tolist() == [[i + 0.5, i + 0.5] for i in range(4)]
    params = load_params(workspace.params)
    assert (params.metric, params.cost_unit, params.budget, trained(params)) == (
        "quality",
        "seconds",
        "40%",
        ["ridge"],
    )
    assert params.imported is not None


def test_an_earlier_pass_of_the_gate_does_not_count_for_new_data(files, workspace):
    importing.run(workspace, *files(), [])
    workspace.reports.mkdir()
    passed = workspace.reports / "validation.json"
    passed.write_text('{"success": true}')
    with pytest.raises(InputError):
        importing.run(workspace, *files(), ["metric=none"])
    assert passed.exists()
    importing.run(workspace, *files(), [])
    assert not passed.exists()


def test_without_costs_only_quality_is_compared(files, workspace):
    importing.run(workspace, files()[0], None, [])
    _, candidates, _ = tables(workspace)
    assert candidates["cost"].tolist() == [1.0, 1.0]
    params = load_params(workspace.params)
    assert (params.cost_unit, params.budget) == ("unit", "100%")


def test_settings_have_the_last_word(files, workspace):
    settings = [
        "metric=b",
        "cost_unit=usd",
        "budget=60%",
        "train.estimators=[ridge, knn]",
        "import.lower_is_better=[b]",
    ]
    importing.run(workspace, *files(metrics=("a", "b"), units=("seconds", "usd")), settings)
    params = load_params(workspace.params)
    assert (params.metric, params.cost_unit, params.budget) == ("b", "usd", "60%")
    assert (trained(params), params.imported.lower_is_better) == (["ridge", "knn"], ["b"])


def test_what_an_imported_workspace_says_outlives_a_second_import(files, workspace):
    importing.run(
        workspace, *files(metrics=("a", "b")), ["metric=b", "train.estimators=[knn]", "budget=2"]
    )
    importing.run(workspace, *files(metrics=("a", "b")), [])
    params = load_params(workspace.params)
    assert (params.metric, trained(params), params.budget) == ("b", ["knn"], "2")


@pytest.mark.parametrize(
    ("given", "settings", "said"),
    [
        ({"metrics": ("a", "b")}, [], r"leaves the metric open \(a, b\).*--set metric=a"),
        ({"units": ("wh", "usd")}, [], r"leaves the cost_unit open \(usd, wh\)"),
        ({}, ["metric=qualty"], "no metric 'qualty' .did you mean 'quality'"),
        ({}, ["train.metrics=[other]"], "no metric 'other'"),
        ({}, ["import.lower_is_better=[other]"], "no metric 'other'"),
        ({}, ["cost_unit=second"], "no cost in the unit 'second' .did you mean 'seconds'"),
        ({}, ["bugdet=2"], "unknown key 'bugdet' .did you mean 'budget'"),
        ({"priced": ("cheap",)}, [], "row 4: candidate 'dear' is not in .*costs.csv"),
        (
            {"priced": ("cheap", "dear", "other")},
            [],
            "costs.csv: candidate 'other' is not in .*scores.csv",
        ),
        (
            {"holes": (("a scene 2", "dear", "quality"),)},
            [],
            "row 10: the prompt 'a scene 2' has no 'quality' score for the candidate 'dear'",
        ),
    ],
)
def test_bad_input_is_refused_and_earlier_files_stay(files, workspace, given, settings, said):
    importing.run(workspace, *files(), [])
    before = {path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=said):
        importing.run(workspace, *files(**given), settings)
    assert {
        path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()
    } == before


def test_a_candidate_priced_in_another_unit_alone_is_refused(files, workspace, tmp_path):
    scores, costs = files()
    costs.write_text("candidate,cost,unit\ncheap,1,seconds\ndear,2,usd\n")
    with pytest.raises(
        InputError, match=r"candidate 'dear' is not in .*costs.csv with a cost in 'seconds'"
    ):
        importing.run(workspace, scores, costs, ["cost_unit=seconds"])
    assert not workspace.root.exists()


def test_holes_may_be_allowed(files, workspace):
    given = files(metrics=("a", "b"), holes=(("a scene 2", "dear", "b"),))
    with pytest.raises(InputError, match="no 'b' score"):
        importing.run(workspace, *given, ["metric=a"])
    for metric in ("a", "b"):
        importing.run(workspace, *given, [f"metric={metric}", "validate.complete_labels=false"])
        assert len(tables(workspace)[2]) == 4 * 2 * 2 * 2 - 2

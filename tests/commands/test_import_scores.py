import csv

import pytest

from catimage.commands import import_scores
from catimage.data.dataset import Candidates, Dataset
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import Workspace


@pytest.fixture
def files(tmp_path):
    """Return a function that writes a scores file of four prompts and a costs file."""

    def write(metrics=("quality",), units=("seconds",), missing=(), priced=("cheap", "expensive")):
        scores, costs = tmp_path / "scores.csv", tmp_path / "costs.csv"
        rows = [
            [f"a scene {i}", c, s, m, i + s]
            for i in range(4)
            for c in ("cheap", "expensive")
            for s in (0, 1)
            for m in metrics
        ]
        with scores.open("w", newline="") as file:
            csv.writer(file).writerows(
                [
                    ["prompt", "candidate", "seed", "metric", "value"],
                    *(r for r in rows if (*r[:2], r[3]) not in missing),
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


def estimator_names(params):
    return [e.name for e in params.train.estimators]


def test_tables_and_parameters_are_written(files, workspace):
    import_scores.run(workspace, *files(), [])
    prompts, candidates, scores = tables(workspace)
    priced = Candidates.from_table(candidates, "seconds")
    assert (priced.names, priced.costs.tolist()) == (["cheap", "expensive"], [1.0, 3.0])
    assert candidates[["generator", "steps"]].to_numpy().tolist() == [
        ["cheap", 0],
        ["expensive", 0],
    ]
    assert set(scores["version"]) == {"imported"}
    labels = Dataset(prompts, scores, priced).labels("quality")
    assert labels.tolist() == [[i + 0.5, i + 0.5] for i in range(4)]
    params = load_params(workspace.params)
    assert (params.metric, params.cost_unit, params.budget, estimator_names(params)) == (
        "quality",
        "seconds",
        "40%",
        ["ridge"],
    )
    assert params.imported is not None


def test_import_deletes_the_validation_report_of_previous_data(files, workspace):
    import_scores.run(workspace, *files(), [])
    workspace.reports.mkdir()
    passed = workspace.reports / "validation.json"
    passed.write_text('{"success": true}')
    with pytest.raises(InputError):
        import_scores.run(workspace, *files(), ["metric=unknown"])
    assert passed.exists()
    import_scores.run(workspace, *files(), [])
    assert not passed.exists()


def test_without_costs_every_candidate_costs_1(files, workspace):
    import_scores.run(workspace, files()[0], None, [])
    _, candidates, _ = tables(workspace)
    assert candidates["cost"].tolist() == [1.0, 1.0]
    params = load_params(workspace.params)
    assert (params.cost_unit, params.budget) == ("unit", "100%")


def test_settings_take_precedence_over_the_imported_files(files, workspace):
    settings = [
        "metric=b",
        "cost_unit=usd",
        "budget=60%",
        "train.estimators=[ridge, knn]",
        "import.lower_is_better=[b]",
    ]
    import_scores.run(workspace, *files(metrics=("a", "b"), units=("seconds", "usd")), settings)
    params = load_params(workspace.params)
    assert (params.metric, params.cost_unit, params.budget) == ("b", "usd", "60%")
    assert (estimator_names(params), params.imported.lower_is_better) == (["ridge", "knn"], ["b"])


def test_second_import_keeps_the_parameters_of_the_first(files, workspace):
    import_scores.run(
        workspace, *files(metrics=("a", "b")), ["metric=b", "train.estimators=[knn]", "budget=2"]
    )
    import_scores.run(workspace, *files(metrics=("a", "b")), [])
    params = load_params(workspace.params)
    assert (params.metric, estimator_names(params), params.budget) == ("b", ["knn"], "2")


@pytest.mark.parametrize(
    ("file_options", "settings", "message"),
    [
        (
            {"metrics": ("a", "b")},
            [],
            r"several values are possible for metric \(a, b\).*--set metric=a",
        ),
        ({"units": ("wh", "usd")}, [], r"several values are possible for cost_unit \(usd, wh\)"),
        ({}, ["metric=qualty"], "no metric 'qualty' .did you mean 'quality'"),
        ({}, ["train.metrics=[other]"], "no metric 'other'"),
        ({}, ["import.lower_is_better=[other]"], "no metric 'other'"),
        ({}, ["cost_unit=wh"], r"no cost in the unit 'wh'\. Set cost_unit to one of seconds"),
        ({}, ["bugdet=2"], r"unknown key 'bugdet'\. Did you mean 'budget'"),
        ({"priced": ("cheap",)}, [], "row 4: candidate 'expensive' is not in .*costs.csv"),
        (
            {"priced": ("cheap", "expensive", "other")},
            [],
            "costs.csv: candidate 'other' is not in .*scores.csv",
        ),
        (
            {"missing": (("a scene 2", "expensive", "quality"),)},
            [],
            "row 10: the prompt 'a scene 2' has no 'quality' score for the candidate 'expensive'",
        ),
    ],
)
def test_invalid_input_is_refused_and_files_are_unchanged(
    files, workspace, file_options, settings, message
):
    import_scores.run(workspace, *files(), [])
    before = {path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=message):
        import_scores.run(workspace, *files(**file_options), settings)
    assert {
        path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()
    } == before


def test_candidate_with_a_cost_in_another_unit_only_is_refused(files, workspace, tmp_path):
    scores, costs = files()
    costs.write_text("candidate,cost,unit\ncheap,1,seconds\nexpensive,2,usd\n")
    with pytest.raises(
        InputError, match=r"candidate 'expensive' is not in .*costs.csv with a cost in 'seconds'"
    ):
        import_scores.run(workspace, scores, costs, ["cost_unit=seconds"])
    assert not workspace.root.exists()


def test_missing_labels_can_be_allowed(files, workspace):
    incomplete_files = files(metrics=("a", "b"), missing=(("a scene 2", "expensive", "b"),))
    with pytest.raises(InputError, match="no 'b' score"):
        import_scores.run(workspace, *incomplete_files, ["metric=a"])
    for metric in ("a", "b"):
        import_scores.run(
            workspace, *incomplete_files, [f"metric={metric}", "validate.complete_labels=false"]
        )
        assert len(tables(workspace)[2]) == 4 * 2 * 2 * 2 - 2

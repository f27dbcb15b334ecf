import csv
import json

import pytest
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands import cross_validate, import_scores
from catimage.data.schema import PROMPTS, read_table
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import Workspace

COLOURS = ("red", "blue", "green")


def _workspace(folder, prompts=120, learnable=True, settings=()):
    """Create a workspace of imported scores.

    If ``learnable``, the cheap candidate is better for red prompts and worse for the others;
    otherwise no candidate is better for any prompt.
    """
    scores, costs = folder / "scores.csv", folder / "costs.csv"
    rows = []
    for i in range(prompts):
        colour = COLOURS[i % 3]
        half_difference = (0.4 if colour == "red" else -0.4) if learnable else 0.0
        for candidate, sign in (("cheap", 1), ("expensive", -1)):
            rows.append(
                [
                    f"a {colour} thing {i}",
                    candidate,
                    0,
                    "quality",
                    5 + sign * half_difference + (i * 7919 % 97) / 97 + (i * sign * 31 % 13) / 50,
                ]
            )
    cost_table = [
        ["candidate", "cost", "unit"],
        ["cheap", 1, "seconds"],
        ["expensive", 3, "seconds"],
    ]
    score_table = [["prompt", "candidate", "seed", "metric", "value"], *rows]
    for path, table in ((scores, score_table), (costs, cost_table)):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(table)
    workspace = Workspace(folder / "workspace")
    import_scores.run(workspace, scores, costs, list(settings))
    return workspace


STACK = (
    "[ridge, {name: text, kind: ridge, features: [tfidf, characters]}, {name: both, kind: stack,"
    " members: [ridge, text]}]"
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A workspace with three estimators, and the result of its cross-validation."""
    workspace = _workspace(
        tmp_path_factory.mktemp("compare"),
        settings=[f"train.estimators={STACK}", "train.folds=2"],
    )
    document = cross_validate.run(workspace, load_params(workspace.params, None), folds=3)
    return workspace, document


def test_every_estimator_and_baseline_has_a_row_with_intervals(compared):
    workspace, document = compared
    assert json.loads((workspace.reports / "comparison.json").read_text()) == document
    rows = {row["estimator"]: row for row in document["estimators"]}
    assert list(rows) == ["fixed", "mix", "oracle", "ridge", "text", "both", "auto"]
    prompts = read_table(workspace.prompts, PROMPTS, "import-scores")
    gate = prompts["split"] == "gate"
    assert gate.sum() > 0 and document["n_prompts"] == 120 - gate.sum()
    for name in ("ridge", "text", "both"):
        assert rows[name]["max_quality"]["interval"][0] > 0.1
        assert rows[name]["match"]["cost_ratio"] < 1
        assert len(rows[name]["chosen"]) == 3
        assert rows[name]["fit_seconds"] > 0
        assert rows[name]["decision_ms"] > 0
    assert rows["oracle"]["max_quality"]["gain"] >= rows["both"]["max_quality"]["gain"] - 1e-9


def test_text_has_a_title_and_a_sentence_about_auto(compared):
    _, document = compared
    text = cross_validate.to_text(document)
    assert "auto gains +" in text
    assert "better" in text
    assert text.splitlines()[0].startswith(f"quality, {document['n_prompts']} prompts in 3 folds")


def test_test_labels_do_not_leak_into_predictions(tmp_path):
    """The labels do not depend on the prompt, so a gain would reveal a leak."""
    workspace = _workspace(tmp_path, learnable=False, settings=["train.folds=2"])
    document = cross_validate.run(workspace, load_params(workspace.params, None), folds=3)
    row = next(r for r in document["estimators"] if r["estimator"] == "auto")
    oracle = next(r for r in document["estimators"] if r["estimator"] == "oracle")
    assert row["max_quality"]["gain"] < oracle["max_quality"]["gain"] / 3
    assert row["max_quality"]["interval"][0] <= 0


def test_json_output_is_one_document(tmp_path):
    workspace = _workspace(tmp_path, settings=["train.folds=2"])
    result = CliRunner().invoke(
        app, ["compare", "--workspace", str(workspace.root), "--folds", "2", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["folds"] == 2


def test_too_many_folds_are_refused(tmp_path):
    workspace = _workspace(tmp_path, prompts=24)
    with pytest.raises(InputError, match="must be between 2 and 2"):
        cross_validate.run(workspace, load_params(workspace.params, None), folds=5)


def test_too_few_prompts_are_refused(tmp_path):
    workspace = _workspace(tmp_path, prompts=12, settings=["import.gate_share=0"])
    with pytest.raises(InputError, match="12 prompts have all labels, and at least 20 are needed"):
        cross_validate.run(workspace, load_params(workspace.params, None), folds=2)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (
            "{name: mine, kind: mlp, features: [prompts]}",
            "mine cannot be fitted with the settings features: prompts",
        ),
        (
            "{name: mine, kind: ridge, settings: {alpha: -5}}",
            "mine cannot be fitted with the settings alpha: -5",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_invalid_settings_are_reported(estimator, message, tmp_path):
    workspace = _workspace(tmp_path, settings=[f"train.estimators=[{estimator}]", "train.folds=2"])
    with pytest.raises(InputError, match=message):
        cross_validate.run(workspace, load_params(workspace.params, None), folds=2)
    assert not (workspace.reports / "comparison.json").exists()

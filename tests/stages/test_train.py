"""Stages train and calibrate: outputs, required validation, and failures."""

import json

import pandas as pd
import pytest

from catimage.errors import InputError
from catimage.estimators.build import in_dependency_order
from catimage.estimators.load_estimators import OUT_OF_FOLD
from catimage.params import EstimatorParams, TrainParams, load_params
from catimage.stages import calibrate, train
from tests.trained_workspace import train_workspace


@pytest.fixture(scope="module")
def trained_workspace(tmp_path_factory):
    return train_workspace(tmp_path_factory.mktemp("train"))


def test_the_folder_of_an_estimator_names_its_candidates_and_chosen_parameters(trained_workspace):
    workspace, _ = trained_workspace
    meta = json.loads(
        (workspace.estimators / "clip_score" / "ridge" / "estimator.json").read_text()
    )
    assert meta["candidates"] == ["mini-1", "mini-2", "mini-4"] and meta["chosen"]["alpha"] > 0


def test_training_needs_data_that_passed_validation(trained_workspace):
    workspace, params = trained_workspace
    report = workspace.reports / "validation.json"
    passed_report = report.read_text()
    try:
        report.write_text('{"success": true}')  # as earlier versions wrote it
        with pytest.raises(InputError, match=r"record of its inputs\. Run 'catimage validate'"):
            train.run(workspace, params)
        report.unlink()
        with pytest.raises(InputError, match="catimage validate"):
            train.run(workspace, params)
    finally:
        report.write_text(passed_report)


def test_out_of_fold_predictions_are_saved_with_an_estimator(trained_workspace):
    workspace, _ = trained_workspace
    predictions = pd.read_parquet(workspace.estimators / "clip_score" / "ridge" / OUT_OF_FOLD)
    prompts = pd.read_parquet(workspace.prompts)
    train_ids = prompts.loc[prompts["split"] == "train", "prompt_id"]
    assert predictions.columns.tolist() == ["prompt_id", "mini-1", "mini-2", "mini-4"]
    assert predictions.notna().all().all()
    assert predictions["prompt_id"].tolist() == train_ids.tolist()


def test_members_come_before_their_stack_in_dependency_order():
    a, b, c = (
        EstimatorParams(name=name, kind="stack", members=members)
        for name, members in (("a", ("c",)), ("b", ("a", "c")), ("c", ()))
    )
    assert [e.name for e in in_dependency_order((b, a, c))] == ["c", "a", "b"]
    with pytest.raises(InputError, match="a and c are members of each other"):
        in_dependency_order((a, c.model_copy(update={"members": ("a",)})))


def test_a_failed_stage_does_not_change_the_previous_output(trained_workspace):
    workspace, _ = trained_workspace
    output = workspace.estimators / "clip_score" / "ridge" / "estimator.skops"
    before = output.read_bytes()
    wrong = {"name": "x", "kind": "ridge", "settings": {"y": 1}}
    invalid = load_params(workspace.params).model_copy(
        update={"train": TrainParams(estimators=["ridge", wrong])}
    )
    with pytest.raises(InputError, match="x: unknown setting 'y'"):
        train.run(workspace, invalid)
    assert output.read_bytes() == before


def test_calibration_keeps_the_budget_and_names_the_estimator(trained_workspace):
    workspace, _ = trained_workspace
    router = json.loads((workspace.router / "router.json").read_text())
    assert router["estimator"] == "ridge" and router["budget"] == pytest.approx(2.4)
    assert router["validation_mean_cost"] <= 2.4 * (1 + 1e-9) and router["lambda"] > 0


def test_calibration_refuses_an_untrained_estimator_and_a_too_low_budget(trained_workspace):
    workspace, params = trained_workspace
    before = (workspace.router / "router.json").read_text()
    with pytest.raises(InputError, match="'knn' is not trained"):
        settings = params.calibrate.model_copy(update={"estimator": "knn"})
        calibrate.run(workspace, params.model_copy(update={"calibrate": settings}))
    with pytest.raises(InputError, match="below the cost of the cheapest"):
        calibrate.run(workspace, params.model_copy(update={"budget": "0.5"}))
    assert (workspace.router / "router.json").read_text() == before

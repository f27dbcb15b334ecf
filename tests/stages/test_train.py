import json

import pandas as pd
import pytest

from catimage.errors import InputError
from catimage.params import EstimatorParams, Train, load_params
from catimage.stages import calibrate, train
from tests.built import build


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("train"))


def test_a_folder_for_each_metric_and_estimator(built):
    workspace, _ = built
    meta = json.loads(
        (workspace.estimators / "clip_score" / "ridge" / "estimator.json").read_text()
    )
    assert meta["candidates"] == ["mini-1", "mini-2", "mini-4"] and meta["chosen"]["alpha"] > 0


def test_training_needs_a_gate_that_passed(built):
    workspace, params = built
    gate = workspace.reports / "validation.json"
    passed = gate.read_text()
    try:
        gate.write_text('{"success": false}')
        with pytest.raises(InputError, match="catimage validate"):
            train.run(workspace, params)
        gate.unlink()
        with pytest.raises(InputError, match="catimage validate"):
            train.run(workspace, params)
    finally:
        gate.write_text(passed)


def test_beside_an_estimator_lies_what_it_says_out_of_fold(built):
    workspace, _ = built
    held = pd.read_parquet(workspace.estimators / "clip_score" / "ridge" / train.OUT_OF_FOLD)
    prompts = pd.read_parquet(workspace.prompts)
    assert (
        held.columns.tolist() == ["prompt_id", "mini-1", "mini-2", "mini-4"]
        and held.notna().all().all()
    )
    assert (
        held["prompt_id"].tolist() == prompts.loc[prompts["split"] == "train", "prompt_id"].tolist()
    )


def test_estimators_come_after_those_they_are_made_of():
    a, b, c = (
        EstimatorParams(name=n, kind="stack", members=m)
        for n, m in (("a", ("c",)), ("b", ("a", "c")), ("c", ()))
    )
    assert [e.name for e in train.in_order((b, a, c))] == ["c", "a", "b"]
    with pytest.raises(InputError, match="a and c are made of each other"):
        train.in_order((a, c.model_copy(update={"members": ("a",)})))


def test_a_stage_that_fails_leaves_the_last_good_output(built):
    workspace, _ = built
    before = (workspace.estimators / "clip_score" / "ridge" / "estimator.skops").read_bytes()
    bad = load_params(workspace.params).model_copy(
        update={"train": Train(estimators=["ridge", "nonsense"])}
    )
    with pytest.raises(InputError, match="no estimator 'nonsense'"):
        train.run(workspace, bad)
    assert (
        workspace.estimators / "clip_score" / "ridge" / "estimator.skops"
    ).read_bytes() == before


def test_calibration_keeps_the_budget_and_says_which_estimator(built):
    workspace, _ = built
    router = json.loads((workspace.router / "router.json").read_text())
    assert router["estimator"] == "ridge" and router["budget"] == pytest.approx(2.4)
    assert router["validation_mean_cost"] <= 2.4 and router["lambda"] > 0


def test_calibration_refuses_an_estimator_that_is_not_trained_and_a_budget_that_is_too_low(built):
    workspace, params = built
    before = (workspace.router / "router.json").read_text()
    with pytest.raises(InputError, match="'knn' is not trained"):
        calibrate.run(
            workspace,
            params.model_copy(
                update={"calibrate": params.calibrate.model_copy(update={"estimator": "knn"})}
            ),
        )
    with pytest.raises(InputError, match="below the cheapest"):
        calibrate.run(workspace, params.model_copy(update={"budget": "0.5"}))
    assert (workspace.router / "router.json").read_text() == before

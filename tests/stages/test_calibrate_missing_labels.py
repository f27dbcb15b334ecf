"""The stage calibrate with missing labels."""

import pytest

from catimage.data.schema import PROMPTS, SCORES, read_table, write_table
from catimage.errors import InputError
from tests.stages.calibration import copy_workspace, run_calibrate, train_two_metrics


@pytest.fixture(scope="module")
def trained_workspace(tmp_path_factory):
    return train_two_metrics(tmp_path_factory.mktemp("calibrate"))


@pytest.fixture
def trained_copy(trained_workspace, tmp_path):
    return copy_workspace(trained_workspace, tmp_path / "w")


def test_prompts_with_missing_labels_contribute_to_the_cost(trained_copy):
    workspace, params = trained_copy
    scores = read_table(workspace.scores, SCORES, "label")
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    incomplete_ids = prompts.loc[prompts["split"] == "val", "prompt_id"].iloc[::2]
    removed = scores["prompt_id"].isin(incomplete_ids) & (scores["candidate"] == "mini-2")
    write_table(scores[~removed], workspace.scores, SCORES)
    incomplete = params.model_copy(
        update={"validation": params.validation.model_copy(update={"complete_labels": False})}
    )
    router, _ = run_calibrate((workspace, incomplete))
    write_table(scores, workspace.scores, SCORES)
    router_of_all_scores, _ = run_calibrate((workspace, params))
    assert router.rule.lam == pytest.approx(router_of_all_scores.rule.lam)


@pytest.mark.parametrize(
    ("metric", "settings", "message"),
    [
        (
            "clip_score",
            {"quality_floor": 0.5},
            "quality_floor: no validation prompt has a clip_score score of every candidate",
        ),
        (
            "sharpness",
            {"floors": {"sharpness": 0.4}},
            "floors: no validation prompt has a sharpness score of every candidate",
        ),
    ],
)
def test_a_floor_without_complete_labels_is_refused(trained_copy, metric, settings, message):
    incomplete = with_incomplete_validation_labels(trained_copy, metric)
    with pytest.raises(InputError, match=message):
        run_calibrate(incomplete, **settings)


def test_floors_are_reached_without_complete_labels_of_the_routed_metric(trained_copy):
    _, document = run_calibrate(
        with_incomplete_validation_labels(trained_copy, "clip_score"),
        estimator="ridge",
        floors={"sharpness": 0.4},
    )
    assert document["validation_quality"] is None
    assert document["validation_floors"]["sharpness"] >= 0.4 - 1e-9


def with_incomplete_validation_labels(trained_copy, metric):
    """Remove the score of one candidate and metric from every validation prompt.

    Returns:
        The workspace, and parameters that allow missing labels.
    """
    workspace, params = trained_copy
    scores = read_table(workspace.scores, SCORES, "label")
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    validation_ids = prompts.loc[prompts["split"] == "val", "prompt_id"]
    removed = (
        scores["prompt_id"].isin(validation_ids)
        & (scores["candidate"] == "mini-2")
        & (scores["metric"] == metric)
    )
    write_table(scores[~removed], workspace.scores, SCORES)
    return workspace, params.model_copy(
        update={"validation": params.validation.model_copy(update={"complete_labels": False})}
    )

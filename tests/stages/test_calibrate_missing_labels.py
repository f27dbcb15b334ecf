"""Stage calibrate with missing labels."""

import pytest

from catimage.data.schema import PROMPTS, SCORES, read_table, write_table
from catimage.errors import InputError
from tests.stages.calibration import calibrated, copy_workspace, train_two_metrics


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
    held = prompts.loc[prompts["split"] == "val", "prompt_id"].iloc[::2]
    gone = scores["prompt_id"].isin(held) & (scores["candidate"] == "mini-2")
    write_table(scores[~gone], workspace.scores, SCORES)
    incomplete = params.model_copy(
        update={"validation": params.validation.model_copy(update={"complete_labels": False})}
    )
    router, _ = calibrated((workspace, incomplete))
    assert router.rule.lam == pytest.approx(
        calibrated(restored(workspace, scores, params))[0].rule.lam
    )


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
        calibrated(incomplete, **settings)


def test_without_complete_labels_of_the_routed_metric_other_floors_are_reached(trained_copy):
    _, document = calibrated(
        with_incomplete_validation_labels(trained_copy, "clip_score"),
        estimator="ridge",
        floors={"sharpness": 0.4},
    )
    assert (
        document["validation_quality"] is None
        and document["validation_floors"]["sharpness"] >= 0.4 - 1e-9
    )


def with_incomplete_validation_labels(trained_copy, metric):
    """Remove one candidate's score of the metric from every validation prompt."""
    workspace, params = trained_copy
    scores, prompts = (
        read_table(workspace.scores, SCORES, "label"),
        read_table(workspace.prompts, PROMPTS, "sample"),
    )
    held = prompts.loc[prompts["split"] == "val", "prompt_id"]
    gone = (
        scores["prompt_id"].isin(held)
        & (scores["candidate"] == "mini-2")
        & (scores["metric"] == metric)
    )
    write_table(scores[~gone], workspace.scores, SCORES)
    return workspace, params.model_copy(
        update={"validation": params.validation.model_copy(update={"complete_labels": False})}
    )


def restored(workspace, scores, params):
    write_table(scores, workspace.scores, SCORES)
    return workspace, params

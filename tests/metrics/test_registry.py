import pytest

from catimage.errors import InputError
from catimage.metrics.registry import (
    METRICS,
    get_metric,
    lower_is_better,
    metric_class,
    metric_names,
)
from catimage.params import ImportParams, LabelParams


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_class_declares_its_name_direction_and_range(name: str):
    declared = metric_class(name)
    assert declared.name == name
    assert declared.higher_is_better in (True, False)
    assert declared.needs_reference in (True, False)
    assert declared.range[0] < declared.range[1]


def test_an_unknown_metric_is_refused_with_the_most_similar_name():
    assert metric_names() == [
        "aesthetic_v1",
        "aesthetic_v2",
        "clip_patch_similarity",
        "clip_score",
        "clip_similarity",
        "dreamsim",
        "hps_v2",
        "i_clip",
        "image_reward",
        "l_snr",
        "lpips",
        "pick_score",
        "scene_faithfulness",
        "sharpness",
        "ssim",
    ]
    with pytest.raises(
        InputError,
        match=(
            r"'clip_scor': unknown metric \(did you mean 'clip_score'\?\)\. Use one of"
            r" aesthetic_v1, .*, clip_score, "
        ),
    ):
        get_metric("clip_scor")


def test_imported_scores_ignore_the_direction_of_built_in_metrics(monkeypatch: pytest.MonkeyPatch):
    label, imported = LabelParams(), ImportParams(lower_is_better=["fid"])
    assert not lower_is_better("sharpness", label)
    assert lower_is_better("fid", label, imported)
    monkeypatch.setattr(metric_class("sharpness"), "higher_is_better", False)
    assert lower_is_better("sharpness", label)
    assert not lower_is_better("sharpness", label, imported)
    with pytest.raises(InputError, match="unknown metric"):
        lower_is_better("fid", label)

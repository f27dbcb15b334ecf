import pytest

from catimage.errors import InputError
from catimage.metrics import METRICS, get_metric, lower_is_better, metric_class, names
from catimage.params import Import, Params


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_declares_itself_on_its_class(name: str):
    declared = metric_class(name)
    assert declared.name == name
    assert declared.higher_is_better in (True, False)
    assert declared.needs_reference in (True, False)
    assert declared.range[0] < declared.range[1]


def test_an_unknown_metric_names_the_nearest():
    assert names() == [
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
            r"'clip_scor': there is no such metric \(did you mean 'clip_score'\?\); there are"
            r" aesthetic_v1, .*, clip_score, "
        ),
    ):
        get_metric("clip_scor")


def test_imports_ignore_built_in_directions(monkeypatch: pytest.MonkeyPatch):
    own, imported = Params(), Params(imported=Import(lower_is_better=["fid"]))
    assert not lower_is_better("sharpness", own)
    assert lower_is_better("fid", imported)
    monkeypatch.setattr(metric_class("sharpness"), "higher_is_better", False)
    assert lower_is_better("sharpness", own)
    assert not lower_is_better("sharpness", imported)
    with pytest.raises(InputError, match="there is no such metric"):
        lower_is_better("fid", own)

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from catimage.commands.score import score_rows
from catimage.errors import InputError
from catimage.metrics.registry import get_metric
from catimage.params import EncoderParams, Params


@pytest.fixture
def params(miniature_pool: Path) -> Params:
    return Params(encoder=EncoderParams(model=f"local-dir:{miniature_pool.parent / 'clip'}"))


def test_rows_have_the_scores_of_the_label_stage(tmp_path: Path, params: Params):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (size, size, 3), np.uint8) for size in (64, 32)]
    paths = [tmp_path / "a.png", tmp_path / "b.webp"]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path, lossless=True)
    rows = score_rows(paths, "a red ring", ["sharpness", "clip_score"], params)
    assert [(r["image"], r["metric"]) for r in rows] == [
        (str(p), m) for p in paths for m in ("sharpness", "clip_score")
    ]
    for row, image in zip(rows[::2], images, strict=True):
        assert row["value"] == get_metric("sharpness").score(image[None], [""])[0]
    clip = get_metric("clip_score", params.encoder, "cpu")
    assert rows[1]["value"] == pytest.approx(clip.score(images[0][None], ["a red ring"])[0])


def test_composite_is_computed_from_its_terms(tmp_path: Path, params: Params):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        tmp_path / "a.png"
    )
    both = params.model_validate(
        {
            "encoder": params.encoder,
            "label": {"composites": {"both": {"terms": {"clip_score": {}, "sharpness": {}}}}},
        }
    )
    rows = score_rows([tmp_path / "a.png"], "a red ring", ["both", "clip_score", "sharpness"], both)
    assert [r["metric"] for r in rows] == ["both", "clip_score", "sharpness"]
    value, clip, sharp = (r["value"] for r in rows)
    low, high = get_metric("sharpness").range
    assert value == pytest.approx(((clip + 1) / 2 + (sharp - low) / (high - low)) / 2)
    (alone,) = score_rows([tmp_path / "a.png"], "a red ring", ["both"], both)
    assert (alone["metric"], alone["value"]) == ("both", value)


def test_invalid_input_is_refused(tmp_path: Path, params: Params):
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(
        tmp_path / "good.png"
    )
    png = (tmp_path / "good.png").read_bytes()
    (tmp_path / "short.png").write_bytes(png[:500])
    (tmp_path / "broken.png").write_bytes(png[:300] + bytes(8) + png[308:])
    for name in ("text.png", "short.png", "broken.png"):
        with pytest.raises(InputError, match=rf"{name}: cannot read the image file"):
            score_rows([tmp_path / "good.png", tmp_path / name], "x", ["sharpness"], params)
    with pytest.raises(InputError, match=r"absent.png: image file not found"):
        score_rows([tmp_path / "good.png", tmp_path / "absent.png"], "x", ["sharpness"], params)
    with pytest.raises(InputError, match="--prompt: the prompt is empty"):
        score_rows([tmp_path / "good.png"], " ", ["sharpness"], params)
    with pytest.raises(InputError, match="unknown metric"):
        score_rows([tmp_path / "good.png"], "x", ["beauty"], params)


def test_a_transparent_image_has_the_scores_of_the_image_on_white(tmp_path: Path, params: Params):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill=(255, 0, 0, 255))
    on_white = Image.new("RGBA", (64, 64), "white")
    on_white.alpha_composite(image)
    image.save(tmp_path / "transparent.png")
    on_white.convert("RGB").save(tmp_path / "white.png")
    paths = [tmp_path / "transparent.png", tmp_path / "white.png"]
    rows = score_rows(paths, "a red circle on white", ["clip_score", "sharpness"], params)
    values = [row["value"] for row in rows]
    assert values[:2] == values[2:] and values[0] != values[1]

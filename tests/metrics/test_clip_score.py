import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from catimage.errors import InputError
from catimage.metrics.clip_score import ClipScore
from catimage.metrics.registry import get_metric
from catimage.params import EncoderParams

PROMPTS = ["a red ring", "two large blue squares on the left", "a red ring", "many stars " * 40]


@pytest.fixture(scope="module")
def clip_folder(miniature_pool: Path) -> Path:
    return miniature_pool.parent / "clip"


def _load_metric(folder: Path) -> ClipScore:
    metric = get_metric("clip_score", EncoderParams(model=f"local-dir:{folder}"), "cpu")
    assert isinstance(metric, ClipScore)
    return metric


def _images(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(PROMPTS), size, size, 3), np.uint8)


@pytest.mark.parametrize("size", [64, 40])
def test_the_score_is_the_cosine_of_the_embeddings_of_open_clip(clip_folder: Path, size: int):
    images = _images(size)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")
    with torch.no_grad():
        image = model.eval().encode_image(
            torch.stack([preprocess(Image.fromarray(i)) for i in images])
        )
        text = model.encode_text(tokenizer(PROMPTS))
    expected = torch.nn.functional.cosine_similarity(image, text).numpy()
    assert _load_metric(clip_folder).score(images, PROMPTS) == pytest.approx(expected, abs=1e-6)


def test_each_prompt_is_encoded_once(clip_folder: Path, monkeypatch: pytest.MonkeyPatch):
    metric = _load_metric(clip_folder)
    encoded: list[str] = []
    tokenize = metric._clip._tokenizer
    monkeypatch.setattr(
        metric._clip, "_tokenizer", lambda texts: (encoded.extend(texts), tokenize(texts))[1]
    )
    first = metric.score(_images(), PROMPTS)
    assert (metric.score(_images(), PROMPTS) == first).all()
    assert sorted(encoded) == sorted(set(PROMPTS))


def test_the_version_depends_on_weights_and_preprocessing(clip_folder: Path, tmp_path: Path):
    version = _load_metric(clip_folder).version
    assert _load_metric(shutil.copytree(clip_folder, tmp_path / "copy")).version == version
    weights_file = (
        shutil.copytree(clip_folder, tmp_path / "weights") / "open_clip_model.safetensors"
    )
    weights = load_file(weights_file)
    weights["text_projection"][0, 0] += 1
    save_file(weights, weights_file)
    config = shutil.copytree(clip_folder, tmp_path / "config") / "open_clip_config.json"
    config.write_text(
        json.dumps(
            json.loads(config.read_text())
            | {"preprocess_cfg": {"mean": [0.4] * 3, "std": [0.5] * 3}}
        )
    )
    assert (
        len(
            {
                version,
                _load_metric(weights_file.parent).version,
                _load_metric(config.parent).version,
            }
        )
        == 3
    )


def test_a_missing_model_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"encoder: cannot load local-dir:"):
        _load_metric(tmp_path / "absent")

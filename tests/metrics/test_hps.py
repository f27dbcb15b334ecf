"""HPSv2.1 compared with the steps of the official code, with an untrained CLIP.

The unchanged official code (github.com/tgxs002/HPSv2 at commit 866735e) gave the same scores with
random weights, with differences of at most 2e-7.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from torchvision.transforms.functional import to_tensor

from catimage.errors import InputError
from catimage.metrics.hps import HpsV2
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import get_metric
from catimage.params import WeightsParams

PROMPTS = ["a red ring", "two large blue squares on the left", "a red ring", "many stars " * 40]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture
def folder(miniature_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save a checkpoint in the published format, and use the architecture of the small CLIP."""
    clip = shutil.copytree(miniature_pool.parent / "clip", tmp_path / "clip")
    config = json.loads((clip / "open_clip_config.json").read_text())
    (clip / "open_clip_config.json").write_text(
        json.dumps({**config, "preprocess_cfg": {"mean": [0.1] * 3, "std": [0.9] * 3}})
    )
    state = load_file(clip / "open_clip_model.safetensors")
    torch.manual_seed(5)
    fine_tuned = {
        k: v + 0.05 * torch.randn_like(v) if v.is_floating_point() else v for k, v in state.items()
    }
    (tmp_path / "hps").mkdir()
    torch.save({"state_dict": fine_tuned}, tmp_path / "hps" / HpsV2.file)
    monkeypatch.setattr(HpsV2, "architecture", f"local-dir:{clip}")
    return tmp_path / "hps"


def _metric(folder: Path) -> HpsV2:
    metric = get_metric(
        "hps_v2",
        context=MetricContext(device="cpu", weights={"hps_v2": WeightsParams(weights=str(folder))}),
    )
    assert isinstance(metric, HpsV2)
    return metric


def _official(folder: Path, images: np.ndarray) -> list[float]:
    """Score one image at a time, as hpsv2/img_score.py of the official code (commit 866735e) does.

    The steps are ``preprocess_val`` of transform.py, the two unit embeddings, and their product.
    """
    model, _, _ = open_clip.create_model_and_transforms(HpsV2.architecture)
    model.load_state_dict(torch.load(folder / HpsV2.file, weights_only=True)["state_dict"])
    tokenizer = open_clip.get_tokenizer(HpsV2.architecture)
    side, scores = model.visual.image_size[0], []
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    for image, prompt in zip(images, PROMPTS, strict=True):
        pixels = to_tensor(Image.fromarray(image))
        height, width = pixels.shape[1:]
        size = [round(side * n / min(height, width)) for n in (height, width)]
        pixels = functional.interpolate(
            pixels[None], size, mode="bicubic", antialias=True, align_corners=False
        )
        top, left = ((n - side) // 2 for n in size)
        pixels = (pixels[:, :, top : top + side, left : left + side] - mean) / std
        with torch.no_grad():
            image_embedding = functional.normalize(model.eval().encode_image(pixels), dim=-1)
            text_embedding = functional.normalize(model.encode_text(tokenizer([prompt])), dim=-1)
        scores.append(float(image_embedding @ text_embedding.T))
    return scores


@pytest.mark.parametrize("shape", [(64, 64), (40, 40), (96, 128), (256, 256)])
def test_the_score_equals_that_of_the_official_code(folder: Path, shape: tuple[int, int]):
    images = np.random.default_rng(0).integers(0, 256, (len(PROMPTS), *shape, 3), np.uint8)
    assert _metric(folder).score(images, PROMPTS) == pytest.approx(
        _official(folder, images), abs=1e-5
    )


def test_the_clip_is_not_shared_with_other_metrics(folder: Path):
    context = MetricContext(device="cpu", weights={"hps_v2": WeightsParams(weights=str(folder))})
    assert (
        get_metric("hps_v2", context=context).version
        != get_metric("clip_score", context=context).version
    )


def test_missing_weights_and_the_weights_of_another_model_are_refused(folder: Path):
    torch.save({"state_dict": {"logit_scale": torch.ones(())}}, folder / HpsV2.file)
    with pytest.raises(
        InputError,
        match=r"label.weights.hps_v2: .*HPS_v2.1_compressed.pt has the weights of another model",
    ):
        _metric(folder)
    with pytest.raises(
        InputError,
        match=r"label.weights.hps_v2: the location of the weights of 'hps_v2' is not set",
    ):
        get_metric("hps_v2")

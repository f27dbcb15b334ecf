from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageFilter

from catimage.metrics.metric import Metric, MetricContext
from catimage.metrics.registry import get_metric
from catimage.params import EncoderParams
from catimage_tiny.data import held_out_scenes

NAMES = ["clip_similarity", "clip_patch_similarity"]


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    """Return rendered scenes, uint8 (n, 64, 64, 3)."""
    return held_out_scenes(3, seed=5).images


@pytest.fixture(scope="module")
def metrics() -> dict[str, Metric]:
    """Return both metrics with the embedded CLIP, by name."""
    context = MetricContext(device="cpu")
    return {name: get_metric(name, context=context) for name in NAMES}


def _score(metric: Metric, images: np.ndarray, references: np.ndarray) -> np.ndarray:
    return metric.score(images, ["x"] * len(images), references)


def test_the_scores_are_cosines_of_the_embeddings_and_tokens_of_open_clip(miniature_pool: Path):
    encoder = EncoderParams(model=f"local-dir:{miniature_pool.parent / 'clip'}")
    images, references = np.random.default_rng(0).integers(0, 256, (2, 4, 50, 64, 3), np.uint8)
    model, _, preprocess = open_clip.create_model_and_transforms(encoder.model)
    middle_tokens: list[torch.Tensor] = []
    model.visual.transformer.resblocks[1].register_forward_hook(
        lambda _, __, tokens: middle_tokens.append(tokens)
    )  # the second of four blocks
    with torch.no_grad():
        embeddings = [
            model.eval().encode_image(torch.stack([preprocess(Image.fromarray(i)) for i in part]))
            for part in (images, references)
        ]
    similarity = torch.nn.functional.cosine_similarity
    expected = {
        "clip_similarity": similarity(*embeddings),
        "clip_patch_similarity": similarity(
            *(tokens[:, 1:] for tokens in middle_tokens), dim=2
        ).mean(1),
    }
    for name, values in expected.items():
        assert _score(get_metric(name, encoder, "cpu"), images, references) == pytest.approx(
            values.numpy(), abs=1e-6
        )


@pytest.mark.parametrize("name", NAMES)
def test_equal_images_score_1_and_the_metric_is_symmetric(
    metrics: dict[str, Metric], scenes: np.ndarray, name: str
):
    metric, others = metrics[name], np.roll(scenes, 1, axis=0)
    assert _score(metric, scenes, scenes.copy()) == pytest.approx(np.ones(len(scenes)), abs=1e-12)
    forward, backward = _score(metric, scenes, others), _score(metric, others, scenes)
    assert forward == pytest.approx(backward, abs=1e-12)
    assert (forward < 0.95).all()
    assert _score(metric, scenes[:1], others[:1]) == pytest.approx(forward[:1], abs=1e-5)


def _degraded(scenes: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Return the scenes with increasing noise, blur, and shift to the right."""
    noise = np.random.default_rng(1).normal(0, 1, scenes.shape)
    return {
        "noise": [np.clip(scenes + s * noise, 0, 255).astype(np.uint8) for s in (0, 15, 60)],
        "blur": [
            np.stack(
                [np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(r))) for i in scenes]
            )
            for r in (0, 1, 3)
        ],
        "shift": [np.roll(scenes, s, axis=2) for s in (0, 1, 4)],
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", ["noise", "blur", "shift"])
def test_noise_blur_and_shift_lower_the_scores(
    metrics: dict[str, Metric], scenes: np.ndarray, name: str, change: str
):
    means = [
        _score(metrics[name], degraded, scenes).mean() for degraded in _degraded(scenes)[change]
    ]
    assert means[0] > means[1] > means[2]


def test_clip_patch_similarity_depends_more_on_the_layout_than_clip_similarity(
    metrics: dict[str, Metric], scenes: np.ndarray
):
    """Shift the scenes by two patches, which moves the objects."""
    means = {
        name: _score(metric, np.roll(scenes, 16, axis=2), scenes).mean()
        for name, metric in metrics.items()
    }
    assert means["clip_patch_similarity"] < means["clip_similarity"] - 0.1


def test_embeddings_are_shared_with_clip_score(scenes: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    context = MetricContext(device="cpu")
    similarity, score = (
        get_metric(name, context=context) for name in ("clip_similarity", "clip_score")
    )
    references, calls = scenes.copy(), []
    encode_image = similarity._clip._model.encode_image
    monkeypatch.setattr(
        similarity._clip._model,
        "encode_image",
        lambda x, **k: (calls.append(len(x)), encode_image(x, **k))[1],
    )
    prompts = ["a red ring"] * len(scenes)
    similarity.score(scenes, prompts, references)
    score.score(scenes, prompts)
    similarity.score(scenes, prompts, references)
    assert calls == [len(scenes)] * 2, "one call for the images and one for the references"

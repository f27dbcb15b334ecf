"""The aesthetic heads compared with numpy, on the embeddings of an untrained CLIP."""

import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from catimage.errors import InputError
from catimage.metrics.aesthetic import AestheticV1, AestheticV2
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import get_metric
from catimage.params import WeightsParams

LAYERS = {"layers.0": 1024, "layers.2": 128, "layers.4": 64, "layers.6": 16, "layers.7": 1}
"""Names and output widths of the layers in sac+logos+ava1-l14-linearMSE.pth."""
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
PROMPTS = ["x"] * len(IMAGES)


def _linear(width: int, outputs: int, seed: int) -> dict[str, torch.Tensor]:
    """Return random weights of a linear layer."""
    rng = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(outputs, width, generator=rng) / width**0.5,
        "bias": torch.randn(outputs, generator=rng),
    }


@pytest.fixture(scope="module")
def folder(miniature_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a CLIP and both heads for its embeddings."""
    folder = tmp_path_factory.mktemp("aesthetic") / "clip"
    shutil.copytree(miniature_pool.parent / "clip", folder)
    width = _embeddings(folder).shape[1]
    torch.save(_linear(width, 1, 0), folder / AestheticV1.file)
    widths = [width, *LAYERS.values()]
    state = {
        f"{name}.{k}": v
        for i, name in enumerate(LAYERS)
        for k, v in _linear(widths[i], widths[i + 1], i).items()
    }
    torch.save(state, folder / AestheticV2.file)
    return folder


def _embeddings(folder: Path) -> np.ndarray:
    """Return the unit embeddings of ``IMAGES`` by open_clip, float64 (n, width)."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with torch.no_grad():
        raw = (
            model.eval()
            .encode_image(torch.stack([preprocess(Image.fromarray(i)) for i in IMAGES]))
            .double()
            .numpy()
        )
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def _context(folder: Path) -> MetricContext:
    return MetricContext(
        device="cpu",
        weights={
            name: WeightsParams(weights=str(folder)) for name in ("aesthetic_v1", "aesthetic_v2")
        },
    )


def test_v1_is_a_linear_head_on_unit_embeddings(folder: Path):
    state = torch.load(folder / AestheticV1.file, weights_only=True)
    expected = _embeddings(folder) @ state["weight"].double().numpy()[0] + state["bias"].item()
    assert get_metric("aesthetic_v1", context=_context(folder)).score(
        IMAGES, PROMPTS
    ) == pytest.approx(expected, abs=1e-6)


def test_v2_is_five_linear_layers(folder: Path):
    state = torch.load(folder / AestheticV2.file, weights_only=True)
    expected = _embeddings(folder)
    for name in LAYERS:
        expected = (
            expected @ state[f"{name}.weight"].double().numpy().T
            + state[f"{name}.bias"].double().numpy()
        )
    metric = get_metric("aesthetic_v2", context=_context(folder))
    assert metric.score(IMAGES, PROMPTS) == pytest.approx(expected[:, 0], abs=1e-5)
    assert (metric.score(IMAGES, PROMPTS) == metric.score(IMAGES, PROMPTS)).all()


def test_both_metrics_share_one_clip_and_its_embeddings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    context, calls = _context(folder), []
    first, second = (get_metric(name, context=context) for name in ("aesthetic_v1", "aesthetic_v2"))
    assert isinstance(first, AestheticV1)
    assert isinstance(second, AestheticV2)
    assert first._clip is second._clip
    embed = first._clip._model.encode_image
    monkeypatch.setattr(
        first._clip._model, "encode_image", lambda *a, **k: (calls.append(1), embed(*a, **k))[1]
    )
    first.score(IMAGES, PROMPTS)
    second.score(IMAGES, PROMPTS)
    assert len(calls) == 1


def test_equal_images_have_equal_scores(folder: Path):
    values = get_metric("aesthetic_v1", context=_context(folder)).score(
        IMAGES[[0, 1, 0]], PROMPTS[:3]
    )
    assert values[0] == pytest.approx(values[2], abs=1e-6)
    assert values[0] != pytest.approx(values[1], abs=1e-6)


def test_the_version_depends_on_head_and_clip(folder: Path, tmp_path: Path):
    version = get_metric("aesthetic_v1", context=_context(folder)).version
    assert version == get_metric("aesthetic_v1", context=_context(folder)).version
    assert version != get_metric("aesthetic_v2", context=_context(folder)).version
    other = shutil.copytree(folder, tmp_path / "other")
    state = torch.load(other / AestheticV1.file, weights_only=True)
    torch.save({**state, "bias": state["bias"] + 1}, other / AestheticV1.file)
    assert get_metric("aesthetic_v1", context=_context(other)).version != version


def test_the_heads_have_the_layers_of_the_published_files():
    heads = {
        AestheticV1: {"": 1},
        AestheticV2: {f"{name}.": outputs for name, outputs in LAYERS.items()},
    }
    for metric, layers in heads.items():
        widths = [768, *layers.values()]
        shapes = {
            f"{name}weight": (outputs, widths[i])
            for i, (name, outputs) in enumerate(layers.items())
        }
        shapes |= {f"{name}bias": (outputs,) for name, outputs in layers.items()}
        assert {k: tuple(v.shape) for k, v in metric.head(768).state_dict().items()} == shapes


def test_missing_weights_and_the_weights_of_another_model_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(
        InputError,
        match=(
            r"label.weights.aesthetic_v1: the location .* is not set\. .* with"
            r" sa_0_4_vit_l_14_linear\.pth"
        ),
    ):
        get_metric("aesthetic_v1")
    other = shutil.copytree(folder, tmp_path / "other")
    torch.save(_linear(768, 1, 0), other / AestheticV1.file)
    with pytest.raises(
        InputError, match=r"label.weights.aesthetic_v1: .* has the weights of another model"
    ):
        get_metric("aesthetic_v1", context=_context(other))

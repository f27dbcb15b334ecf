import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
from torchmetrics.functional.image import lpips as torchmetrics_lpips
from torchvision.models import alexnet

from catimage.errors import InputError
from catimage.metrics.lpips import BACKBONES, Lpips
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import get_metric
from catimage.params import WeightsParams


@pytest.fixture(scope="module", autouse=True)
def _skip_initialisation():
    """Skip the initialisation of AlexNet's linear layers, which are not used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Linear, "reset_parameters", lambda _: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save random weights of AlexNet's features under torchvision's file name."""
    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(3)
    state = {
        name: value
        for name, value in alexnet(weights=None).state_dict().items()
        if name.startswith("features.")
    }
    torch.save(state, folder / BACKBONES["alex"])
    return folder


def _metric(folder: Path) -> Lpips:
    metric = get_metric(
        "lpips",
        context=MetricContext(device="cpu", weights={"lpips": WeightsParams(weights=str(folder))}),
    )
    assert isinstance(metric, Lpips)
    return metric


@pytest.fixture(scope="module")
def metric(folder: Path) -> Lpips:
    return _metric(folder)


def _images() -> np.ndarray:
    """Return random images and references, uint8 (2, n, h, w, 3)."""
    return np.random.default_rng(0).integers(0, 256, (2, 4, 64, 64, 3), np.uint8)


def _score(metric: Lpips, images: np.ndarray, references: np.ndarray) -> np.ndarray:
    return metric.score(images, ["x"] * len(images), references)


def test_the_score_equals_that_of_torchmetrics_with_the_same_weights(
    folder: Path, metric: Lpips, monkeypatch: pytest.MonkeyPatch
):
    backbone = alexnet(weights=None)
    backbone.load_state_dict(
        torch.load(folder / BACKBONES["alex"], weights_only=True), strict=False
    )
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_: backbone.features)
    a, b = (torch.tensor(part).permute(0, 3, 1, 2) / 255 for part in _images())
    expected = learned_perceptual_image_patch_similarity(
        a, b, net_type="alex", reduction="none", normalize=True
    )
    assert _score(metric, *_images()) == pytest.approx(expected.numpy(), rel=1e-6)


def test_equal_images_score_0_and_noise_raises_the_score(metric: Lpips):
    image = np.kron(np.random.default_rng(1).integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1)))
    noise = np.random.default_rng(2).normal(0, 1, image.shape)
    noisy = np.stack([np.clip(image + s * noise, 0, 255) for s in (0, 5, 20, 80)]).astype(np.uint8)
    image = np.stack([image.astype(np.uint8)] * 4)
    values = _score(metric, noisy, image)
    assert values[0] == 0
    assert (np.diff(values) > 0).all()
    assert _score(metric, image, noisy) == pytest.approx(values, rel=1e-5)


def test_the_version_depends_on_the_weights(folder: Path, metric: Lpips, tmp_path: Path):
    path = shutil.copytree(folder, tmp_path / "other") / BACKBONES["alex"]
    state = torch.load(path, weights_only=True)
    state["features.0.bias"] += 1
    torch.save(state, path)
    assert _metric(folder).version == metric.version != _metric(path.parent).version


def test_missing_weights_and_the_weights_of_another_model_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(
        InputError,
        match=r"label\.weights\.lpips: the location of the weights of 'lpips' is not set",
    ):
        get_metric("lpips", device="cpu")
    with pytest.raises(
        InputError,
        match=(
            r"lpips: .* has neither alexnet-owt-7be5be79\.pth nor vgg16-397923af\.pth\. Put"
            r" one of them there"
        ),
    ):
        _metric(tmp_path)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / BACKBONES["alex"])
    with pytest.raises(
        InputError, match=r"label\.weights\.lpips: .* has the weights of another model"
    ):
        _metric(tmp_path)


def test_a_reference_of_another_size_is_refused(metric: Lpips):
    with pytest.raises(
        InputError, match="lpips: the image has 64x64 pixels and its reference has 80x64"
    ):
        _score(metric, np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 64, 80, 3), np.uint8))

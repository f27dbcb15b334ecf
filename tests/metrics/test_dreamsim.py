"""DreamSim with a small ensemble: the networks of the package, 24 channels, random weights."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dreamsim import PerceptualModel
from dreamsim import dreamsim as official
from dreamsim.config import dreamsim_args
from dreamsim.feature_extraction import (
    extractor,
    load_clip_as_dino,
    load_open_clip_as_dino,
    vision_transformer,
)
from peft import LoraConfig, get_peft_model
from PIL import Image

from catimage.errors import InputError
from catimage.metrics.dreamsim import DINO, FILES, DreamSim
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import get_metric
from catimage.params import WeightsParams

WIDTH = 24


def _vit(patch_size: int = 16, **_: object) -> Any:
    """Return a small vision transformer of the package."""
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    settings = {
        "embed_dim": WIDTH,
        "depth": 12,
        "num_heads": 2,
        "qkv_bias": True,
        "norm_layer": norm,
    }
    return vision_transformer.VisionTransformer(patch_size=patch_size, **settings)


def _randomised(module: Any) -> dict[str, torch.Tensor]:
    """Return random weights; the default initialisation gives nearly equal embeddings."""
    return {
        name: torch.randn_like(value) * 0.3 + (value == 1)
        for name, value in module.state_dict().items()
    }


def _clip_state() -> dict[str, Any]:
    """Return a checkpoint of a small CLIP image encoder in the format of the package."""
    vit = _vit()
    vit.pos_drop = torch.nn.LayerNorm(WIDTH)
    return {"state_dict": _randomised(vit) | {"proj": torch.randn(WIDTH, 8)}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files that the package stores in its ``cache_dir`` in its first run."""
    folder = tmp_path_factory.mktemp("dreamsim")
    torch.manual_seed(0)
    (folder / DINO).parent.mkdir()
    torch.save(_randomised(_vit()), folder / DINO)
    head = _head()
    layers = {f"module.head.{name}": value for name, value in head.state_dict().items()}
    torch.save(
        {"student": layers | {"module.head.last_layer.weight": head.last_layer.weight.detach()}},
        folder / "dino_vitb16_pretrain.pth",
    )
    for file in FILES[1:3]:
        torch.save(_clip_state(), folder / file)
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch, folder)
        model = PerceptualModel(
            **dreamsim_args["model_config"]["ensemble"],
            device="cpu",
            load_dir=str(folder),
            normalize_embeds=True,
        )
    adapted = get_peft_model(
        model, LoraConfig(r=2, lora_alpha=1, lora_dropout=0.3, bias="none", target_modules=["qkv"])
    )
    for name, value in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(value, std=0.5)
    adapted.save_pretrained(folder / "ensemble_lora")
    assert {"r": 2, "peft_type": "LORA"}.items() <= json.loads(
        (folder / "ensemble_lora/adapter_config.json").read_text()
    ).items()
    return folder


def _head() -> Any:
    return vision_transformer.DINOHead(WIDTH, 8, hidden_dim=8, bottleneck_dim=8)


def _shrink(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Reduce the sizes of the package's networks, and make ``torch.hub.load`` read a local file."""
    for module in (vision_transformer, load_clip_as_dino, load_open_clip_as_dino):
        patch.setattr(module, "vit_base", _vit)
    patch.setattr(extractor, "DINOHead", lambda *_: _head())

    def load_dino(*_: str) -> Any:
        model = _vit()
        model.load_state_dict(torch.load(folder / DINO, weights_only=True))
        return model

    patch.setattr(torch.hub, "load", load_dino)
    patch.setattr(torch.hub, "set_dir", lambda _: None)


@pytest.fixture
def metric(folder: Path, monkeypatch: pytest.MonkeyPatch) -> DreamSim:
    _shrink(monkeypatch, folder)
    return _metric(folder)


def _metric(folder: Path) -> DreamSim:
    metric = get_metric(
        "dreamsim",
        context=MetricContext(
            device="cpu", weights={"dreamsim": WeightsParams(weights=str(folder))}
        ),
    )
    assert isinstance(metric, DreamSim)
    return metric


def _images() -> np.ndarray:
    """Return random images and references, uint8 (2, n, h, w, 3)."""
    return np.random.default_rng(0).integers(0, 256, (2, 3, 48, 40, 3), np.uint8)


def _score(metric: DreamSim, images: np.ndarray, references: np.ndarray) -> np.ndarray:
    return metric.score(images, ["x"] * len(images), references)


def test_the_score_equals_that_of_the_package_with_the_same_weights(
    metric: DreamSim, folder: Path, capsys: pytest.CaptureFixture[str]
):
    model, preprocess = official(pretrained=True, device="cpu", cache_dir=str(folder))
    images, references = _images()
    with torch.no_grad():
        pairs = [
            [preprocess(Image.fromarray(image)) for image in pair]
            for pair in zip(images, references, strict=True)
        ]
        expected = [float(model(*pair)) for pair in pairs]
    scores = _score(metric, images, references)
    assert scores == pytest.approx(expected, abs=1e-6)
    assert np.ptp(scores) > 1e-3
    assert "Using cached" in capsys.readouterr().out


def test_the_adapter_is_merged_without_torch_hub(
    metric: DreamSim, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.hub, "load", lambda *_: pytest.fail("torch.hub was called"))
    forward = PerceptualModel.forward
    without_hub = _metric(folder)
    assert without_hub.version == metric.version
    assert not any("lora" in name for name, _ in without_hub._model.named_parameters())
    qkv = torch.load(folder / DINO, weights_only=True)["blocks.0.attn.qkv.weight"]
    merged = without_hub._model.extractor_list[0].model.blocks[0].attn.qkv.weight
    assert (merged - qkv).abs().max() > 0.01
    assert PerceptualModel.forward is forward


def test_the_distance_is_symmetric_and_0_for_an_enlarged_image(metric: DreamSim):
    images, references = _images()
    assert _score(metric, images, images) == pytest.approx([0, 0, 0], abs=1e-12)
    assert _score(metric, images, references) == pytest.approx(
        _score(metric, references, images), abs=1e-6
    )
    larger = np.stack(
        [
            np.asarray(Image.fromarray(i).resize((224, 224), Image.Resampling.BICUBIC))
            for i in images
        ]
    )
    assert _score(metric, images, larger) == pytest.approx([0, 0, 0], abs=1e-6)


def test_missing_weights_and_the_weights_of_another_model_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(
        InputError,
        match=r"label\.weights\.dreamsim: the location of the weights of 'dreamsim' is not set",
    ):
        get_metric("dreamsim", device="cpu")
    with pytest.raises(
        InputError,
        match=(
            r"label\.weights\.dreamsim: .*: the file checkpoints/dino_vitbase16_pretrain\.pth is"
            r" missing\. Put it there; docs/metrics\.md"
        ),
    ):
        _metric(tmp_path)
    _shrink(monkeypatch, folder)
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / FILES[2]).write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"label\.weights\.dreamsim: .* cannot be loaded"):
        _metric(damaged)
    torch.save({"cls_token": torch.zeros(1)}, damaged / DINO)
    with pytest.raises(
        InputError, match=r"dino_vitbase16_pretrain\.pth has the weights of another model"
    ):
        _metric(damaged)

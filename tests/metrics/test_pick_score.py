"""PickScore compared with the steps of the official example, on an untrained CLIP."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from catimage.errors import InputError
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import get_metric
from catimage.params import WeightsParams

PROMPTS = ["a red ring", "Two large,  blue squares on the left!", "a red ring", "many stars " * 60]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPModel

    place = tmp_path_factory.mktemp("pick")
    both = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu"}
    text = {**both, "hidden_size": 32, "intermediate_size": 48, "vocab_size": 49408}
    vision = {**both, "hidden_size": 40, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    torch.manual_seed(3)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    CLIPModel(config).save_pretrained(place)
    return place


def _metric(folder: Path) -> Any:
    return get_metric(
        "pick_score",
        context=MetricContext(
            device="cpu", weights={"pick_score": WeightsParams(weights=str(folder))}
        ),
    )


@pytest.fixture(scope="module")
def metric(folder: Path) -> Any:
    return _metric(folder)


@pytest.fixture(scope="module")
def processor() -> Any:
    """Return transformers' processor of CLIP ViT-H/14, with OpenAI's vocabulary."""
    from transformers import CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    simple = open_clip.get_tokenizer("ViT-H-14")
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    side = {"height": 32, "width": 32}
    tokenizer = CLIPTokenizer(
        vocab={names.get(w, w): i for w, i in simple.encoder.items()}, merges=list(simple.bpe_ranks)
    )
    return tokenizer, CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side)


def _official(folder: Path, processor: Any, images: np.ndarray) -> list[float]:
    """The README of github.com/yuvalkirstain/PickScore at f79607f, up to its softmax."""
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer, pixels = processor
    scores = []
    for image, prompt in zip(images, PROMPTS, strict=True):
        seen = pixels(images=[Image.fromarray(image)], return_tensors="pt")
        read = tokenizer(
            [prompt], padding=True, truncation=True, max_length=77, return_tensors="pt"
        )
        with torch.no_grad():
            both = model(**seen, **read)
            image_embs = both.image_embeds / torch.norm(both.image_embeds, dim=-1, keepdim=True)
            text_embs = both.text_embeds / torch.norm(both.text_embeds, dim=-1, keepdim=True)
            scores.append(float((model.logit_scale.exp() * (text_embs @ image_embs.T))[0]))
    return scores


@pytest.mark.parametrize("shape", [(64, 64), (24, 24), (90, 128)])
def test_the_score_equals_the_official_one(
    metric: Any, folder: Path, processor: Any, shape: tuple[int, int]
):
    images = np.random.default_rng(0).integers(0, 256, (len(PROMPTS), *shape, 3), np.uint8)
    assert metric.score(images, PROMPTS) == pytest.approx(
        _official(folder, processor, images), abs=1e-4
    )


def test_scores_do_not_depend_on_the_batch(metric: Any):
    images = np.random.default_rng(1).integers(0, 256, (len(PROMPTS), 32, 32, 3), np.uint8)
    together = metric.score(images, PROMPTS)
    alone = [metric.score(images[i : i + 1], PROMPTS[i : i + 1])[0] for i in range(len(PROMPTS))]
    assert together == pytest.approx(alone, abs=1e-5)


def test_missing_and_incomplete_weights_are_refused(folder: Path, tmp_path: Path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(
        InputError, match=r"label.weights.pick_score: .* has no CLIP of transformers"
    ):
        _metric(tmp_path)
    state = load_file(folder / "model.safetensors")
    incomplete = {k: v for k, v in state.items() if k != "visual_projection.weight"}
    save_file(incomplete, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError,
        match=(
            r"label.weights.pick_score: .* the weights of another model; the tensor"
            r" 'visual_projection\.weight' is missing"
        ),
    ):
        _metric(tmp_path)
    with pytest.raises(
        InputError,
        match=(
            r"label.weights.pick_score: the location .* is not set\. .* with config\.json,"
            r" model\.safetensors"
        ),
    ):
        get_metric("pick_score")


def test_the_version_depends_on_the_weights(metric: Any, folder: Path, tmp_path: Path):
    state = load_file(folder / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(
        {**state, "logit_scale": state["logit_scale"] + 1},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    assert _metric(tmp_path).version != metric.version

"""PickScore compared with the steps of the official example, with an untrained CLIP."""

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
    """Save a small CLIP of transformers with random weights."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("pick")
    common = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu"}
    text = {**common, "hidden_size": 32, "intermediate_size": 48, "vocab_size": 49408}
    vision = {
        **common,
        "hidden_size": 40,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 8,
    }
    torch.manual_seed(3)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    return folder


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
def processors() -> Any:
    """Return transformers' tokenizer with OpenAI's vocabulary, and its image processor."""
    from transformers import CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    open_clip_tokenizer = open_clip.get_tokenizer("ViT-H-14")
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    size = {"height": 32, "width": 32}
    tokenizer = CLIPTokenizer(
        vocab={names.get(w, w): i for w, i in open_clip_tokenizer.encoder.items()},
        merges=list(open_clip_tokenizer.bpe_ranks),
    )
    return tokenizer, CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size)


def _official(folder: Path, processors: Any, images: np.ndarray) -> list[float]:
    """Score images as the README of github.com/yuvalkirstain/PickScore does at commit f79607f.

    The softmax of the README is omitted.
    """
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer, image_processor = processors
    scores = []
    for image, prompt in zip(images, PROMPTS, strict=True):
        image_inputs = image_processor(images=[Image.fromarray(image)], return_tensors="pt")
        text_inputs = tokenizer(
            [prompt], padding=True, truncation=True, max_length=77, return_tensors="pt"
        )
        with torch.no_grad():
            output = model(**image_inputs, **text_inputs)
            image_embs = output.image_embeds / torch.norm(output.image_embeds, dim=-1, keepdim=True)
            text_embs = output.text_embeds / torch.norm(output.text_embeds, dim=-1, keepdim=True)
            scores.append(float((model.logit_scale.exp() * (text_embs @ image_embs.T))[0]))
    return scores


@pytest.mark.parametrize("shape", [(64, 64), (24, 24), (90, 128)])
def test_the_score_equals_that_of_the_official_example(
    metric: Any, folder: Path, processors: Any, shape: tuple[int, int]
):
    images = np.random.default_rng(0).integers(0, 256, (len(PROMPTS), *shape, 3), np.uint8)
    assert metric.score(images, PROMPTS) == pytest.approx(
        _official(folder, processors, images), abs=1e-4
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
            r"label.weights.pick_score: .* has the weights of another model: the tensor"
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

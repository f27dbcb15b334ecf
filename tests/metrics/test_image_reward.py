"""ImageReward compared with the official code.

The scores are compared for equal small weights, and the names and shapes of the tensors for the
real configuration.
"""

import hashlib
import zlib
from math import prod
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch

from catimage.errors import InputError
from catimage.metrics.image_reward import CHECKPOINT, VOCABULARY, ImageReward
from catimage.metrics.image_reward_model import RewardModel, model_configs, rename_state
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import get_metric
from catimage.metrics.scoring import ImageBatch, score
from catimage.params import WeightsParams

TOKENS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "ring",
    "cat",
    "##s",
    "on",
    "the",
    "left",
    ",",
    "many",
    "stars",
]
PROMPTS = ["A red ring", "cats on the left, many stars", "", "many stars " * 40]
MINIATURE = {
    "vision": (192, 768, 2),
    "text": (128, 192, 2),
    "vocabulary_size": len(TOKENS) + 2,
    "positions": 40,
}
LARGE = {
    "vision": (1024, 4096, 24),
    "text": (768, 3072, 12),
    "vocabulary_size": 30524,
    "positions": 512,
}

# The scores by image size: the results of model.score(prompt, image) of the official code
# (github.com/THUDM/ImageReward at commit c1392c6dd0fd6ecd6d416c96959ab744a6d0a8fb) for each of
# PROMPTS and images(height, width), with the state dict random_state(official_shapes(**MINIATURE)).
# The code was unchanged except for replacements of the names that transformers 5.23 and timm 1.0 no
# longer export, and for the sizes and the vocabulary of this module. As in the original model, an
# attention head has a width of 64.
OFFICIAL = {
    (64, 64): [0.7540680170059204, 0.7967556118965149, 1.1641631126403809, 0.8676131963729858],
    (96, 64): [0.9033172726631165, 0.7165496349334717, 0.9301273226737976, 0.9504042267799377],
    (256, 320): [0.7653274536132812, 0.721863865852356, 0.9782688021659851, 0.7483038902282715],
}
# SHA-256 of the sorted names and shapes of the official code's model in its original
# configuration: 625 tensors of 1,786,667,908 bytes. The published ImageReward.pt has 1,786,880,927
# bytes, so that the archive format takes 341 bytes per tensor.
LARGE_KEYS = "d8f54ba359bd353a4e66c8a95ce53c8c646f4902e5f833c959c1753cf43be853"


def official_shapes(
    vision: tuple[int, int, int], text: tuple[int, int, int], vocabulary_size: int, positions: int
) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the tensors of the official state dict.

    Args:
        vision: the width, the inner width and the number of layers of the image encoder.
        text: the same numbers of the text encoder.
        vocabulary_size: the number of tokens.
        positions: the number of text positions.
    """
    (image_width, image_inner, blocks), (width, inner, layers) = vision, text
    image_encoder, text_encoder = "blip.visual_encoder", "blip.text_encoder"
    shapes = {
        f"{image_encoder}.cls_token": (1, 1, image_width),
        f"{image_encoder}.pos_embed": (1, 197, image_width),
        f"{text_encoder}.embeddings.position_ids": (1, positions),
    }
    shapes |= {
        f"{image_encoder}.patch_embed.proj.weight": (image_width, 3, 16, 16),
        f"{image_encoder}.patch_embed.proj.bias": (image_width,),
    }
    shapes |= {f"{text_encoder}.embeddings.word_embeddings.weight": (vocabulary_size, width)}
    shapes |= {f"{text_encoder}.embeddings.position_embeddings.weight": (positions, width)}
    norms = [
        (f"{image_encoder}.norm", image_width),
        (f"{text_encoder}.embeddings.LayerNorm", width),
    ]
    linear = [("blip.vision_proj", 256, image_width), ("blip.text_proj", 256, width)]
    linear += [
        (f"mlp.layers.{i}", *shape)
        for i, shape in {
            0: (1024, width),
            2: (128, 1024),
            4: (64, 128),
            6: (16, 64),
            7: (1, 16),
        }.items()
    ]
    for block in (f"{image_encoder}.blocks.{i}" for i in range(blocks)):
        norms += [(f"{block}.norm1", image_width), (f"{block}.norm2", image_width)]
        linear += [
            (f"{block}.attn.qkv", 3 * image_width, image_width),
            (f"{block}.attn.proj", image_width, image_width),
            (f"{block}.mlp.fc1", image_inner, image_width),
            (f"{block}.mlp.fc2", image_width, image_inner),
        ]
    for layer in (f"{text_encoder}.encoder.layer.{i}" for i in range(layers)):
        for attention, source in (
            (f"{layer}.attention", width),
            (f"{layer}.crossattention", image_width),
        ):
            linear += [
                (f"{attention}.self.query", width, width),
                (f"{attention}.output.dense", width, width),
            ]
            linear += [(f"{attention}.self.{name}", width, source) for name in ("key", "value")]
        norms += [
            (f"{layer}.{part}output.LayerNorm", width)
            for part in ("attention.", "crossattention.", "")
        ]
        linear += [
            (f"{layer}.intermediate.dense", inner, width),
            (f"{layer}.output.dense", width, inner),
        ]
    for name, *shape in [*norms, *linear]:
        shapes |= {f"{name}.weight": tuple(shape), f"{name}.bias": (shape[0],)}
    return shapes


def random_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return uniform random weights that depend only on the names and shapes of the tensors.

    Their scale gives attention weights between uniform and one-hot.
    """
    return {name: torch.from_numpy(_values(name, shape)).float() for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(prod(shape)).reshape(shape)
    uniform = (raw >> np.uint64(11)) * 2.0**-52 - 1
    if len(shape) > 1:
        return uniform * np.sqrt(3 / prod(shape[1:]))
    return 0.2 * uniform + ("norm" in name.lower() and name.endswith("weight"))


def images(height: int, width: int) -> np.ndarray:
    """Return one random image per prompt, uint8 (n, height, width, 3)."""
    raw = np.random.PCG64(height * 1000 + width).random_raw(len(PROMPTS) * height * width * 3)
    return (raw >> np.uint64(56)).astype(np.uint8).reshape(len(PROMPTS), height, width, 3)


def save(folder: Path, state: dict[str, torch.Tensor], vocabulary: list[str] = TOKENS) -> Path:
    folder.mkdir()
    torch.save(state, folder / "ImageReward.pt")
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return folder


def load(folder: Path) -> ImageReward:
    metric = get_metric(
        "image_reward",
        context=MetricContext(
            device="cpu", weights={"image_reward": WeightsParams(weights=str(folder))}
        ),
    )
    assert isinstance(metric, ImageReward)
    return metric


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return random_state(official_shapes(**MINIATURE))


@pytest.fixture(scope="module")
def folder(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("image_reward") / "weights", state)


@pytest.fixture(scope="module")
def metric(folder: Path) -> ImageReward:
    return load(folder)


@pytest.mark.parametrize("size", OFFICIAL)
def test_the_score_equals_the_official_reward(metric: ImageReward, size: tuple[int, int]):
    rewards = metric.score(images(*size), PROMPTS)
    assert rewards.dtype == np.float64
    assert rewards == pytest.approx(
        OFFICIAL[size], abs=1e-5
    )  # an epsilon of 1e-5 instead of 1e-6 in the image encoder changes scores by 1.8e-5


def test_the_model_has_the_tensors_of_the_official_checkpoint():
    shapes = official_shapes(**LARGE)
    lines = "\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == LARGE_KEYS
    used = rename_state({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert len(used) == len(shapes) - 5  # without position_ids and the two projections
    vision, text = model_configs(used)
    with torch.device("meta"):
        model = RewardModel(vision, text)
    model.load_state_dict(used, strict=True, assign=True)
    assert (
        vision.image_size,
        vision.patch_size,
        vision.num_attention_heads,
        text.num_attention_heads,
    ) == (224, 16, 16, 12)


def test_scores_do_not_depend_on_the_batch(metric: ImageReward, monkeypatch: pytest.MonkeyPatch):
    inputs = images(64, 64)
    monkeypatch.setattr("catimage.metrics.image_reward.BATCH_SIZE", 3)
    assert metric.score(inputs[::-1], PROMPTS[::-1]) == pytest.approx(
        OFFICIAL[64, 64][::-1], abs=1e-5
    )


def test_case_and_tokens_after_the_35th_do_not_change_the_score(metric: ImageReward):
    inputs = images(64, 64)[[3, 3, 0, 0]]
    long, longer, lower_case, upper_case = metric.score(
        inputs, ["many stars " * 20, "many stars " * 20 + "a red cat", "a red ring", "A RED Ring"]
    )
    assert (long, lower_case) == pytest.approx((longer, upper_case), abs=1e-6)


def test_rewards_are_unbounded(metric: ImageReward):
    scores = score(metric, ImageBatch(images(64, 64), PROMPTS, list("abcd")))
    assert np.isfinite(scores).all()
    assert metric.range == (-np.inf, np.inf)
    assert metric.higher_is_better


def test_the_version_depends_on_the_used_weights_and_the_vocabulary(
    metric: ImageReward, state: dict[str, torch.Tensor], tmp_path: Path
):
    with_unused_tensors = state | {
        "blip.vision_proj.weight": torch.zeros(256, 192),
        "blip.queue": torch.zeros(3),
    }
    assert load(save(tmp_path / "unused", with_unused_tensors)).version == metric.version
    weights = load(save(tmp_path / "weights", state | {"mlp.layers.7.bias": torch.ones(1)})).version
    other_vocabulary = load(
        save(tmp_path / "vocabulary", state, [*TOKENS[:-2], "stars", "many"])
    ).version
    assert len({metric.version, weights, other_vocabulary}) == 3


def test_by_default_both_files_come_from_the_hub_at_pinned_revisions(
    metric: ImageReward, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    requests = []

    def fetch(repository: str, file: str, revision: str) -> str:
        requests.append((repository, file, revision))
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert get_metric("image_reward", context=MetricContext(device="cpu")).version == metric.version
    other = MetricContext(
        device="cpu", weights={"image_reward": WeightsParams(weights="me/mine", revision="abc")}
    )
    get_metric("image_reward", context=other)
    vocabulary_file = (VOCABULARY.weights, "vocab.txt", VOCABULARY.revision)
    assert requests == [
        (CHECKPOINT.weights, "ImageReward.pt", CHECKPOINT.revision),
        vocabulary_file,
        ("me/mine", "ImageReward.pt", "abc"),
        vocabulary_file,
    ]


def test_missing_weights_are_refused(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"label\.weights\.image_reward: .*ImageReward\.pt is not found"
    ):
        load(tmp_path)
    (tmp_path / "ImageReward.pt").touch()
    with pytest.raises(
        InputError, match=r"label\.weights\.image_reward: .*vocab\.txt is not found"
    ):
        load(tmp_path)
    with pytest.raises(
        InputError, match=r"'THUDM/ImageReward' at revision '9fabc279.*is not in the cache"
    ):
        get_metric("image_reward", context=MetricContext(device="cpu"))


@pytest.mark.parametrize(
    "change",
    [
        {"mlp.layers.7.bias": None},
        {"blip.visual_encoder.pos_embed": None},
        {"mlp.layers.8.bias": torch.ones(1)},
        {"mlp.layers.7.bias": torch.ones(2)},
    ],
)
def test_the_weights_of_another_model_are_refused(
    state: dict[str, torch.Tensor], tmp_path: Path, change: dict[str, torch.Tensor | None]
):
    changed = {name: value for name, value in {**state, **change}.items() if value is not None}
    with pytest.raises(InputError, match=r"ImageReward\.pt has the weights of another model"):
        load(save(tmp_path / "weights", changed))


def test_the_vocabulary_of_another_model_is_refused(state: dict[str, torch.Tensor], tmp_path: Path):
    with pytest.raises(
        InputError,
        match=(
            r"vocab\.txt and BLIP's two tokens make 19 tokens, but the model has 18\. Put the"
            r" vocab\.txt of"
        ),
    ):
        load(save(tmp_path / "weights", state, [*TOKENS, "more"]))

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from open_clip import coca_model
from PIL import Image
from safetensors.torch import save_file

from catimage.errors import InputError
from catimage.metrics.captions import Captioner
from catimage.metrics.i_clip import IClip
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import get_metric
from catimage.params import EncoderParams, WeightsParams

WIDTH, LENGTH = 32, 32


def _configuration(vocabulary: int) -> dict[str, Any]:
    text = {
        "context_length": LENGTH,
        "vocab_size": vocabulary,
        "width": WIDTH,
        "heads": 2,
        "layers": 2,
    }
    image = {
        "image_size": 32,
        "patch_size": 8,
        "layers": 2,
        "width": WIDTH,
        "head_width": 16,
        "attentional_pool": True,
    }
    return {
        "embed_dim": WIDTH,
        "vision_cfg": {**image, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**text, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": text,
    }


def _save(folder: Path, tokenizer: str | None, vocabulary: int, end: int) -> Path:
    """Save a small CoCa with random weights that give captions of different lengths.

    Args:
        folder: the folder to write.
        tokenizer: any text to use the tokenizer of transformers in the folder, or None to use
            open_clip's tokenizer.
        vocabulary: the number of tokens.
        end: the id of the end token.
    """
    torch.manual_seed(0)
    configuration = _configuration(vocabulary)
    model = open_clip.CoCa(**configuration)
    for value in model.parameters():
        if value.ndim > 1:  # open_clip does not initialise the decoder's projection
            torch.nn.init.normal_(value, std=0.4)
    model.text_decoder.text_projection.data[:, end] *= (
        3  # makes the end token likely for some images
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.detach().contiguous().clone() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    if tokenizer:
        configuration["text_cfg"]["hf_tokenizer_name"] = tokenizer
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": configuration | {"custom_text": True}, "preprocess_cfg": {}})
    )
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, miniature_pool: Path) -> dict[str, Path]:
    """Save a CoCa with a tokenizer of transformers and one with open_clip's tokenizer."""
    root = tmp_path_factory.mktemp("coca")
    shutil.copytree(miniature_pool.parent / "clip", root / "transformers")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{root / 'transformers'}").tokenizer
    return {
        "transformers": _save(root / "transformers", "any", len(tokenizer), tokenizer.eos_token_id),
        "open_clip": _save(root / "open_clip", None, 49408, 49407),
    }


def _context(folder: Path, clip: Path) -> MetricContext:
    return MetricContext(
        EncoderParams(model=f"local-dir:{clip}"),
        "cpu",
        {"i_clip": WeightsParams(weights=str(folder))},
    )


def _images(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)


def _generate_by_open_clip(
    patch: pytest.MonkeyPatch, folder: Path, images: np.ndarray
) -> torch.Tensor:
    """Return the tokens that open_clip's ``generate`` returns.

    open_clip's imports from transformers are replaced, because they fail since transformers has
    removed one of the classes.
    """
    names = (
        "LogitsProcessorList",
        "RepetitionPenaltyLogitsProcessor",
        "MinLengthLogitsProcessor",
        "MaxLengthCriteria",
    )
    for name in (*names, "StoppingCriteriaList"):
        patch.setattr(coca_model, name, getattr(transformers, name), raising=False)
    patch.setattr(coca_model, "_has_transformers", True)
    patch.setitem(coca_model.GENERATION_TYPES, "top_k", transformers.TopKLogitsWarper)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    start, end = open_clip.get_tokenizer(f"local-dir:{folder}")([""])[0, :2].tolist()
    pixels = torch.stack([preprocess(Image.fromarray(image)) for image in images])
    tokens: torch.Tensor = model.eval().generate(
        pixels, generation_type="top_k", top_k=1, sot_token_id=start, eos_token_id=end
    )
    return tokens


@pytest.mark.parametrize("kind", ["transformers", "open_clip"])
def test_captions_equal_the_captions_of_greedy_decoding_in_open_clip(
    folders: dict[str, Path], miniature_pool: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    captioner = Captioner(_context(folders[kind], miniature_pool.parent / "clip"), "i_clip")
    images = _images(6 if kind == "transformers" else 2)
    tokens = captioner.tokens(images)
    assert (tokens == _generate_by_open_clip(monkeypatch, folders[kind], images)).all()
    assert len({tuple(row) for row in tokens.tolist()}) > 1, "the captions differ"
    if kind == "transformers":
        assert len({row.index(captioner._end) for row in tokens.tolist()}) > 1, (
            "the lengths of the captions differ"
        )
    if kind == "open_clip":
        texts = [
            open_clip.decode(row).split("<end_of_text>")[0].replace("<start_of_text>", "")
            for row in tokens
        ]
        # The padding token 0 is decoded as "!".
        assert captioner.captions(images) == [text.split("!!")[0].strip() for text in texts]


def test_the_score_is_the_cosine_of_the_embeddings_of_captions(
    folders: dict[str, Path], miniature_pool: Path
):
    clip = miniature_pool.parent / "clip"
    metric = get_metric("i_clip", context=_context(folders["transformers"], clip))
    assert isinstance(metric, IClip)
    images, references = _images()[:3], _images()[3:]
    scores = metric.score(images, ["x"] * 3, references)
    model, tokenizer = (
        open_clip.create_model(f"local-dir:{clip}").eval(),
        open_clip.get_tokenizer(f"local-dir:{clip}"),
    )
    with torch.no_grad():
        embeddings = [
            model.encode_text(tokenizer(metric._captioner.captions(part)))
            for part in (images, references)
        ]
    assert scores == pytest.approx(
        torch.nn.functional.cosine_similarity(*embeddings).numpy(), abs=1e-6
    )
    assert metric.score(images, ["x"] * 3, images) == pytest.approx([1, 1, 1], abs=1e-12)


def test_each_reference_is_captioned_once(
    folders: dict[str, Path], miniature_pool: Path, monkeypatch: pytest.MonkeyPatch
):
    metric = get_metric(
        "i_clip", context=_context(folders["transformers"], miniature_pool.parent / "clip")
    )
    captioner, calls = metric._captioner, []
    caption_images = captioner.captions
    monkeypatch.setattr(
        captioner, "captions", lambda images: (calls.append(len(images)), caption_images(images))[1]
    )
    first = metric.score(_images(2), ["x"] * 2, _images()[[3, 3]])
    assert (metric.score(_images(2), ["x"] * 2, _images()[[3, 3]]) == first).all()
    assert metric.score(_images(1), ["x"], _images()[3:4]) == pytest.approx(first[:1], abs=1e-6)
    assert calls == [2, 1, 2, 1], "the images are captioned in every call, the reference only once"


def test_the_version_depends_on_captioner_and_clip(
    folders: dict[str, Path], miniature_pool: Path, tmp_path: Path
):
    clip = miniature_pool.parent / "clip"
    config = json.loads((folders["transformers"] / "open_clip_config.json").read_text())
    other_captioner = shutil.copytree(folders["transformers"], tmp_path / "other")
    (other_captioner / "open_clip_config.json").write_text(
        json.dumps(config | {"preprocess_cfg": {"mean": [0.5] * 3}})
    )
    other_clip = shutil.copytree(clip, tmp_path / "clip")
    config = json.loads((other_clip / "open_clip_config.json").read_text())
    (other_clip / "open_clip_config.json").write_text(
        json.dumps(config | {"preprocess_cfg": {"mean": [0.4] * 3}})
    )
    folder_pairs = [
        (folders["transformers"], clip),
        (other_captioner, clip),
        (folders["transformers"], other_clip),
    ]
    assert (
        len({get_metric("i_clip", context=_context(*pair)).version for pair in folder_pairs}) == 3
    )


def test_a_folder_without_a_captioner_is_refused(miniature_pool: Path, tmp_path: Path):
    clip = miniature_pool.parent / "clip"
    with pytest.raises(
        InputError,
        match=(
            r"label\.weights\.i_clip: .* has neither open_clip_config\.json nor"
            r" open_clip_pytorch_model\.bin"
        ),
    ):
        get_metric("i_clip", context=_context(tmp_path, clip))
    with pytest.raises(
        InputError, match=r"label\.weights\.i_clip: .* has a model without a text decoder"
    ):
        get_metric("i_clip", context=_context(clip, clip))
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": _configuration(100) | {"custom_text": True}})
    )
    with pytest.raises(
        InputError, match=r"label\.weights\.i_clip: .* has no model that open_clip can load"
    ):
        get_metric("i_clip", context=_context(tmp_path, clip))
    with pytest.raises(InputError, match=r"label\.weights\.i_clip: the hub does not respond"):
        get_metric("i_clip", EncoderParams(model=f"local-dir:{clip}"), "cpu")

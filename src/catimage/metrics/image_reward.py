"""ImageReward (Xu et al. 2023, arXiv 2304.05977): a reward model of human preference."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catimage.common.devices import device_of
from catimage.errors import InputError
from catimage.metrics.clip import digest_of
from catimage.metrics.metric import Metric, MetricContext
from catimage.metrics.weights import weights_file
from catimage.params import WeightsParams

CHECKPOINT = WeightsParams(
    weights="THUDM/ImageReward", revision="9fabc279a94f082f9eb130070cac021569dd16dc"
)
VOCABULARY = WeightsParams(
    weights="google-bert/bert-base-uncased", revision="86b5e0934494bd15c9632b12f734a8a67f723594"
)
BATCH_SIZE = 32
"""Images per pass of the model. The constant bounds the memory for any ``label.batch_size``."""
MAX_TOKENS = 35
SIZE = 224


class ImageReward(Metric):
    """ImageReward-v1.0: the standardised output of the authors' model.

    Rewards are unbounded, and most are within a few units of 0. The shorter side of an image is
    resized to 224 pixels (bicubic) and the centre is cropped; a prompt is cut after 35 tokens.
    ``label.weights.image_reward`` may name a folder with the official ``ImageReward.pt`` and the
    ``vocab.txt`` of bert-base-uncased; by default both files are downloaded from the hub.
    ``version`` has a digest of both.

    Raises:
        InputError: the weights, the vocabulary or the device are unavailable, or the vocabulary
            does not match the weights.
    """

    name = "image_reward"
    range = (-float("inf"), float("inf"))

    def __init__(self, context: MetricContext) -> None:
        from catimage.metrics.image_reward_model import load_reward_model

        self._device = device_of(context.device)
        checkpoint = weights_file(context, self.name, "ImageReward.pt", CHECKPOINT)
        vocabulary = _vocabulary(context)
        model = load_reward_model(checkpoint, self.name)
        self._tokenizer = _tokenizer(vocabulary, model.text_encoder.config.vocab_size)
        self.version = f"1-{digest_of(model, hashlib.sha256(vocabulary.read_bytes()).hexdigest())}"
        self._model = model.to(self._device)
        self._preprocess = _preprocess()

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3), for n prompts."""
        parts = [slice(start, start + BATCH_SIZE) for start in range(0, len(images), BATCH_SIZE)]
        return np.concatenate([self._score_batch(images[part], prompts[part]) for part in parts])

    def _score_batch(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        import torch

        pixels = torch.stack([self._preprocess(Image.fromarray(image)) for image in images])
        text = self._tokenizer(
            prompts,
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        inputs = (pixels, text["input_ids"], text["attention_mask"])
        with torch.inference_mode():
            rewards = self._model(*(tensor.to(self._device) for tensor in inputs))
        return np.asarray(rewards.double().cpu().numpy())


def _vocabulary(context: MetricContext) -> Path:
    """Return the path of BERT's vocabulary.

    The file is in the folder ``label.weights.image_reward``; if this setting is absent or names a
    repository, the file is downloaded from the hub.
    """
    source = context.weights.get(ImageReward.name)
    is_folder = source is not None and Path(source.weights).is_dir()
    location = context if is_folder else MetricContext()
    return weights_file(location, ImageReward.name, "vocab.txt", VOCABULARY)


def _tokenizer(vocabulary: Path, vocabulary_size: int) -> Any:
    """Return BERT's tokenizer with the two additional tokens of BLIP.

    Raises:
        InputError: the tokenizer does not have ``vocabulary_size`` tokens, which is the number of
            tokens of the model.
    """
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(vocabulary.parent)
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    if len(tokenizer) != vocabulary_size:
        raise InputError(
            f"params.yaml: label.weights.{ImageReward.name}: {vocabulary} and BLIP's two tokens"
            f" make {len(tokenizer):,} tokens, but the model has {vocabulary_size:,}. Put the"
            " vocab.txt of bert-base-uncased there."
        )
    return tokenizer


def _preprocess() -> Any:
    """Return the transform from a PIL image to normalised pixels (3, 224, 224)."""
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from torchvision.transforms import (
        CenterCrop,
        Compose,
        InterpolationMode,
        Normalize,
        Resize,
        ToTensor,
    )

    resize = Resize(SIZE, interpolation=InterpolationMode.BICUBIC)
    return Compose(
        [resize, CenterCrop(SIZE), ToTensor(), Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)]
    )

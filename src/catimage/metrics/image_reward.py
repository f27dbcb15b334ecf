"""ImageReward (Xu et al. 2023, arXiv 2304.05977): a reward model of human preference for an image
of a prompt.
"""

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
from catimage.params import Weights

CHECKPOINT = Weights(
    weights="THUDM/ImageReward", revision="9fabc279a94f082f9eb130070cac021569dd16dc"
)
VOCABULARY = Weights(
    weights="google-bert/bert-base-uncased", revision="86b5e0934494bd15c9632b12f734a8a67f723594"
)
BATCH = 32
"""Images that pass through the model at once, so that memory does not grow with the batch of the
label stage.
"""
TOKENS = 35
SIZE = 224


class ImageReward(Metric):
    """ImageReward-v1.0: a reward by the authors' model, standardised: mostly within a few units of
    0, but without bounds.

    The shorter side is resized to 224 pixels (bicubic) and the middle taken; a prompt is cut after
    35 tokens. ``label.weights`` may name a folder with the official ``ImageReward.pt`` and, beside
    it, ``vocab.txt`` of bert-base-uncased; otherwise the hub gives both. ``version`` holds a digest
    of both.

    Raises:
        InputError: the weights, the vocabulary or the device are not to be had, or do not belong
            together.
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
        """uint8 (n, h, w, 3) and n prompts to float64 (n,)."""
        parts = [slice(start, start + BATCH) for start in range(0, len(images), BATCH)]
        return np.concatenate([self._batch(images[part], prompts[part]) for part in parts])

    def _batch(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        import torch

        pixels = torch.stack([self._preprocess(Image.fromarray(image)) for image in images])
        text = self._tokenizer(
            prompts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        )
        given = (
            tensor.to(self._device)
            for tensor in (pixels, text["input_ids"], text["attention_mask"])
        )
        with torch.inference_mode():
            rewards: np.ndarray = self._model(*given).double().cpu().numpy()
        return rewards


def _vocabulary(context: MetricContext) -> Path:
    """The words of BERT: beside the weights where those are a folder, else from the hub."""
    place = context.weights.get(ImageReward.name)
    beside = place is not None and Path(place.weights).is_dir()
    return weights_file(
        context if beside else MetricContext(), ImageReward.name, "vocab.txt", VOCABULARY
    )


def _tokenizer(vocabulary: Path, words: int) -> Any:
    """BERT's, with BLIP's two tokens, for a model that knows ``words`` tokens.

    Raises:
        InputError: it has another number of tokens.
    """
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(vocabulary.parent)
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    if len(tokenizer) != words:
        given = (
            f"{vocabulary} and BLIP's two tokens make {len(tokenizer):,} tokens, where the model"
            f" has {words:,}"
        )
        raise InputError(
            f"params.yaml: label.weights.{ImageReward.name}: {given}; put the vocab.txt of"
            " bert-base-uncased there."
        )
    return tokenizer


def _preprocess() -> Any:
    """An image of PIL to normalised pixels (3, 224, 224)."""
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

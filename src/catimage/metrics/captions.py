"""Deterministic captions of images by open_clip's CoCa (Yu et al. 2022)."""

from __future__ import annotations

import hashlib
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from catimage.common.devices import device_of
from catimage.errors import InputError
from catimage.metrics.clip import digest_of
from catimage.metrics.metric import MetricContext
from catimage.metrics.weights import weights_folder
from catimage.params import EncoderParams, WeightsParams

if TYPE_CHECKING:
    import torch

DEFAULT = WeightsParams(
    weights="laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k",
    revision="f895105fb18cf5ea3ba7a1172966e4cc0ad8d743",
)
"""CoCa ViT-L/14, fine-tuned on the captions of MS COCO."""
CONFIG, PICKLE = "open_clip_config.json", "open_clip_pytorch_model.bin"
FILES = ["*.json", "*.txt", "*.model", "open_clip*.safetensors", PICKLE]
MAX_LENGTH, MIN_LENGTH = 30, 5
"""Limits of the number of tokens of a caption, start and end tokens included, as in open_clip's
``generate``."""
BATCH_SIZE = 32


class Captioner:
    """A model that captions images with greedy decoding.

    The captions equal those of open_clip's ``generate`` with ``top_k=1``. That function is not
    used, because it requires classes that transformers has removed.

    Args:
        context: the context with the device and ``label.weights``.
        metric: the name of the metric whose ``label.weights`` give the model: a folder in
            open_clip's ``local-dir:`` layout, or a folder with the weights of ``coca_ViT-L-14``
            only (``open_clip_pytorch_model.bin``).

    Attributes:
        digest: a digest of the model and of the preprocessing.

    Raises:
        InputError: the model or the device is unavailable, or the model is not a CoCa.
    """

    def __init__(self, context: MetricContext, metric: str) -> None:
        from open_clip import get_model_preprocess_cfg
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self._device = device_of(context.device)
        model, self._tokenizer = _load(weights_folder(context, metric, FILES, DEFAULT), metric)
        self._model = model.to(self._device)
        self._preprocess: Any = image_transform_v2(
            PreprocessCfg(**get_model_preprocess_cfg(model)), is_train=False
        )
        self._start, self._end = self._tokenizer([""])[0, :2].tolist()
        self._cache: dict[bytes, str] = {}
        self.digest = digest_of(self._model, repr(self._preprocess))

    def captions(self, images: np.ndarray) -> list[str]:
        """Return the captions of images, uint8 (n, h, w, 3)."""
        parts = (images[i : i + BATCH_SIZE] for i in range(0, len(images), BATCH_SIZE))
        return [self._decode(row) for part in parts for row in self.tokens(part).tolist()]

    def cached_captions(self, images: np.ndarray) -> list[str]:
        """Return the captions of images, uint8 (n, h, w, 3), and cache the captions.

        An image that occurs several times is captioned once per run.
        """
        digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
        new = {digest: i for i, digest in enumerate(digests) if digest not in self._cache}
        if new:
            captions = self.captions(images[list(new.values())])
            self._cache |= dict(zip(new, captions, strict=True))
        return [self._cache[digest] for digest in digests]

    def tokens(self, images: np.ndarray) -> torch.Tensor:
        """Return the token ids of captions: (n, length), with at most :data:`MAX_LENGTH` tokens.

        A row has the start token, the caption, the end token and padding.
        """
        import torch

        pixels = torch.stack([self._preprocess(Image.fromarray(image)) for image in images])
        pixels = pixels.to(self._device)
        with torch.inference_mode():
            latent, image_tokens = self._model._encode_image(pixels)
            rows: torch.Tensor = torch.full((len(images), 1), self._start, device=self._device)
            while rows.shape[1] < MAX_LENGTH and not self._has_ended(rows).all():
                output = self._model(pixels, rows, latent, image_tokens, output_labels=False)
                rows = torch.cat([rows, self._next_tokens(output["logits"][:, -1], rows)], 1)
        return rows

    def _has_ended(self, rows: torch.Tensor) -> torch.Tensor:
        ended: torch.Tensor = (rows[:, -1] == self._end) | (rows[:, -1] == self._model.pad_id)
        return ended

    def _next_tokens(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the most likely next token of each row, (n, 1).

        The end token is excluded before the minimum length and forced at the maximum length; ended
        rows are padded.
        """
        if rows.shape[1] < MIN_LENGTH:
            logits[:, self._end] = float("-inf")
        best = (
            logits.argmax(1)
            if rows.shape[1] + 1 < MAX_LENGTH
            else logits.new_full((len(rows),), self._end).long()
        )
        best[self._has_ended(rows)] = self._model.pad_id
        return best[:, None]

    def _decode(self, row: list[int]) -> str:
        special = (self._end, self._model.pad_id)
        tokens = list(takewhile(lambda token: token not in special, row[1:]))
        # open_clip has a tokenizer of its own, and one that wraps a tokenizer of transformers.
        tokenizer = getattr(self._tokenizer, "tokenizer", self._tokenizer)
        return str(tokenizer.decode(tokens)).strip()


def _load(folder: Path, metric: str) -> tuple[Any, Any]:
    from catimage.encoders.open_clip import LOCAL_PREFIX, load_clip

    where = f"params.yaml: label.weights.{metric}: {folder}"
    if (folder / CONFIG).is_file():
        source = EncoderParams(model=f"{LOCAL_PREFIX}{folder}")
    elif (folder / PICKLE).is_file():
        source = EncoderParams(model="coca_ViT-L-14", weights=str(folder / PICKLE))
    else:
        raise InputError(
            f"{where} has neither {CONFIG} nor {PICKLE}. Put a CoCa model of open_clip there."
        )
    try:
        model, tokenizer = load_clip(source)
    except (InputError, TypeError) as error:  # TypeError: the configuration of another model
        reason = str(error).rstrip(".")
        raise InputError(
            f"{where} has no model that open_clip can load ({reason}). Put a CoCa model of"
            " open_clip there."
        ) from error
    if not hasattr(model, "text_decoder"):
        raise InputError(f"{where} has a model without a text decoder. Put a CoCa model there.")
    return model, tokenizer

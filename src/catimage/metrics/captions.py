"""Captions of images by open_clip's CoCa (Yu et al. 2022), the same every time."""

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
from catimage.params import Encoder, Weights

if TYPE_CHECKING:
    import torch

DEFAULT = Weights(
    weights="laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k",
    revision="f895105fb18cf5ea3ba7a1172966e4cc0ad8d743",
)
"""CoCa at ViT-L/14, finished on the captions of MS COCO."""
CONFIG, PICKLE = "open_clip_config.json", "open_clip_pytorch_model.bin"
FILES = ["*.json", "*.txt", "*.model", "open_clip*.safetensors", PICKLE]
LENGTH, LEAST, BATCH = 30, 5, 32


class Captioner:
    """Greedy captions of at most 30 tokens and at least 5, the end markers among them, as
    open_clip's ``generate`` has them by default.

    That function is not used: it needs classes which transformers has dropped, and its default is a
    beam search with them. The likeliest token at every step is what its ``top_k`` of 1 takes.

    Args:
        metric: whose ``label.weights`` say where the model is: a folder in open_clip's
            ``local-dir:`` layout, or one that has the weights alone
            (``open_clip_pytorch_model.bin``) of ``coca_ViT-L-14``.

    Raises:
        InputError: the model or device is not to be had, or it is no CoCa.
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
        self._known: dict[bytes, str] = {}
        self.digest = digest_of(self._model, repr(self._preprocess))

    def captions(self, images: np.ndarray) -> list[str]:
        """Of uint8 (n, h, w, 3)."""
        parts = range(0, len(images), BATCH)
        return [
            self._text(row) for i in parts for row in self.tokens(images[i : i + BATCH]).tolist()
        ]

    def known(self, images: np.ndarray) -> list[str]:
        """The same, of images that come again and again; a caption is made once in a run and kept."""
        digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
        fresh = {digest: i for i, digest in enumerate(digests) if digest not in self._known}
        if fresh:
            self._known |= dict(
                zip(fresh, self.captions(images[list(fresh.values())]), strict=True)
            )
        return [self._known[digest] for digest in digests]

    def tokens(self, images: np.ndarray) -> torch.Tensor:
        """Start token, caption, end token, then padding: (n, at most 30)."""
        import torch

        pixels = torch.stack([self._preprocess(Image.fromarray(image)) for image in images]).to(
            self._device
        )
        with torch.inference_mode():
            latent, embedded = self._model._encode_image(pixels)
            row: torch.Tensor = torch.full((len(images), 1), self._start, device=self._device)
            while row.shape[1] < LENGTH and not self._ended(row).all():
                logits = self._model(pixels, row, latent, embedded, output_labels=False)["logits"][
                    :, -1
                ]
                row = torch.cat([row, self._next(logits, row)], 1)
        return row

    def _ended(self, row: torch.Tensor) -> torch.Tensor:
        ended: torch.Tensor = (row[:, -1] == self._end) | (row[:, -1] == self._model.pad_id)
        return ended

    def _next(self, logits: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """The likeliest token of each row, (n, 1): no end before the least length, none but that at
        the greatest, padding after it.
        """
        if row.shape[1] < LEAST:
            logits[:, self._end] = float("-inf")
        best = (
            logits.argmax(1)
            if row.shape[1] + 1 < LENGTH
            else logits.new_full((len(row),), self._end).long()
        )
        best[self._ended(row)] = self._model.pad_id
        return best[:, None]

    def _text(self, row: list[int]) -> str:
        words = list(takewhile(lambda token: token not in (self._end, self._model.pad_id), row[1:]))
        coder = getattr(
            self._tokenizer, "tokenizer", self._tokenizer
        )  # open_clip's own, or transformers' inside of it
        return str(coder.decode(words)).strip()


def _load(folder: Path, metric: str) -> tuple[Any, Any]:
    from catimage.encoders.open_clip import LOCAL_PREFIX, load_clip

    whole = (folder / CONFIG).is_file()
    source = (
        Encoder(model=f"{LOCAL_PREFIX}{folder}")
        if whole
        else Encoder(model="coca_ViT-L-14", weights=str(folder / PICKLE))
    )
    where = f"params.yaml: label.weights.{metric}: {folder}"
    if not whole and not (folder / PICKLE).is_file():
        raise InputError(
            f"{where} has neither {CONFIG} nor {PICKLE}; put a CoCa of open_clip's there."
        )
    try:
        model, tokenizer = load_clip(source)
    except (
        InputError,
        TypeError,
    ) as error:  # the latter of a configuration that is no CoCa's nor another's
        raise InputError(
            f"{where} holds no model that open_clip loads ({str(error).rstrip('.')})."
        ) from error
    if not hasattr(model, "text_decoder"):
        raise InputError(
            f"{where} holds a model without a text decoder; a captioner is wanted, a CoCa."
        )
    return model, tokenizer

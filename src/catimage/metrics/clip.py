"""CLIP models that several metrics share, so that images and texts are embedded once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from catimage.common.devices import device_of
from catimage.metrics.metric import MetricContext
from catimage.params import EncoderParams

if TYPE_CHECKING:
    import torch


def shared_clip(context: MetricContext, encoder: EncoderParams) -> SharedClip:
    """Return the CLIP of ``encoder``, which is loaded once per context.

    Raises:
        InputError: the model or the device is unavailable.
    """
    clip: SharedClip = context.shared(("clip", encoder), lambda: _load(encoder, context.device))
    return clip


def _load(encoder: EncoderParams, device: str) -> SharedClip:
    from open_clip import get_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from catimage.encoders.open_clip import load_clip

    device_of(device)  # checks the device before the model is loaded
    model, tokenizer = load_clip(encoder)
    preprocess = image_transform_v2(
        PreprocessCfg(**get_model_preprocess_cfg(model)), is_train=False
    )
    return SharedClip(model, tokenizer, preprocess, device)


class SharedClip:
    """A CLIP that caches the embeddings of texts and of the last two batches of images.

    Args:
        model: a model with the methods of open_clip's CLIP models.
        tokenizer: a function that maps texts to token ids.
        preprocess: a function that maps a PIL image to the input of ``model``.
        device: a device of torch, or ``auto``.

    Attributes:
        scale: the logit scale of the model.
        digest: a digest of the weights and of the preprocessing.

    Raises:
        InputError: the device is unavailable.
    """

    def __init__(self, model: Any, tokenizer: Any, preprocess: Any, device: str = "auto") -> None:
        self._device = device_of(device)
        self._model = model.to(self._device)
        self._tokenizer, self._preprocess = tokenizer, preprocess
        self._text_embeddings: dict[str, torch.Tensor] = {}
        self._last_images: list[tuple[np.ndarray, torch.Tensor]] = []
        self._block_count = 0
        self.scale = float(self._model.logit_scale.exp())
        self.digest = digest_of(self._model, repr(self._preprocess))

    def embed_images(self, images: np.ndarray) -> torch.Tensor:
        """Return unit embeddings, float32 (n, width), of images, uint8 (n, h, w, 3).

        The embeddings of the last two arrays are cached, so that several metrics can use them.
        """
        import torch

        for cached, embeddings in self._last_images:
            if cached is images:
                return embeddings
        with torch.inference_mode():
            new: torch.Tensor = self._model.encode_image(self._pixels(images), normalize=True)
            new = new.float()
        self._last_images = [*self._last_images[-1:], (images, new)]
        return new

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        import torch

        pixels = [self._preprocess(Image.fromarray(image)) for image in images]
        return torch.stack(pixels).to(self._device)

    def patch_tokens(self, images: np.ndarray) -> torch.Tensor:
        """Return the patch tokens of images after the first half of the image encoder's blocks.

        Args:
            images: uint8 (n, h, w, 3).

        Returns:
            float32 (n, width, rows, columns), without a final normalisation layer.
        """
        import torch

        with torch.inference_mode():
            if not self._block_count:
                outputs = self._model.forward_intermediates(
                    self._pixels(images[:1]), intermediates_only=True
                )
                self._block_count = len(outputs["image_intermediates"])
            outputs = self._model.forward_intermediates(
                self._pixels(images),
                image_indices=[max(0, self._block_count // 2 - 1)],
                stop_early=True,
                intermediates_only=True,
            )
        tokens: torch.Tensor = outputs["image_intermediates"][0]
        return tokens.float()

    def embed_texts(self, prompts: list[str], cache: bool = True) -> torch.Tensor:
        """Return unit embeddings, float32 (n, width), of texts.

        Texts are cut to the context length of the model.

        Args:
            prompts: the n texts.
            cache: whether to keep the embeddings for later calls.
        """
        import torch

        if not cache:
            return self._embed(prompts)
        new = [p for p in dict.fromkeys(prompts) if p not in self._text_embeddings]
        if new:
            self._text_embeddings |= dict(zip(new, self._embed(new), strict=True))
        return torch.stack([self._text_embeddings[p] for p in prompts])

    def _embed(self, prompts: list[str]) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            embeddings: torch.Tensor = self._model.encode_text(
                self._tokenizer(prompts).to(self._device), normalize=True
            )
        return embeddings.float()

    def cosines(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Return the cosine of each image and its prompt: float64 (n,) in [-1, 1]."""
        import torch

        with torch.inference_mode():
            cosines = (self.embed_images(images) * self.embed_texts(prompts)).sum(1)
        return np.asarray(cosines.double().cpu().numpy().clip(-1, 1))


def digest_of(model: torch.nn.Module, extra: str = "") -> str:
    """Return 12 hexadecimal digits of the SHA-256 of a model's weights and of ``extra``."""
    digest = hashlib.sha256(extra.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]

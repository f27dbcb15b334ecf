"""A CLIP that the metrics of one run share: an image is embedded once for all of them, and a prompt
once in its life.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from catimage.common.devices import device_of
from catimage.metrics.metric import MetricContext
from catimage.params import Encoder

if TYPE_CHECKING:
    import torch


def shared_clip(context: MetricContext, encoder: Encoder) -> SharedClip:
    """The CLIP of ``encoder``, loaded once in a context.

    Raises:
        InputError: the model or device is not to be had.
    """
    clip: SharedClip = context.shared(("clip", encoder), lambda: _loaded(encoder, context.device))
    return clip


def _loaded(encoder: Encoder, device: str) -> SharedClip:
    from open_clip import get_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from catimage.encoders.open_clip import load_clip

    device_of(device)  # says what is wrong with it before anything large is loaded
    model, tokenizer = load_clip(encoder)
    return SharedClip(
        model,
        tokenizer,
        image_transform_v2(PreprocessCfg(**get_model_preprocess_cfg(model)), is_train=False),
        device,
    )


class SharedClip:
    """Two towers as open_clip has them. ``digest`` identifies weights and preprocessing; ``scale``
    is the model's logit scale.

    Args:
        model: what embeds images and texts.
        tokenizer: texts to token ids.
        preprocess: a PIL image to the pixels that ``model`` takes.
        device: torch's name, or ``auto``.

    Raises:
        InputError: the device is not to be had.
    """

    def __init__(self, model: Any, tokenizer: Any, preprocess: Any, device: str = "auto") -> None:
        self._device = device_of(device)
        self._model, self._tokenizer, self._preprocess = (
            model.to(self._device),
            tokenizer,
            preprocess,
        )
        self._texts: dict[str, torch.Tensor] = {}
        self._last: list[tuple[np.ndarray, torch.Tensor]] = []
        self._depth = 0
        self.scale = float(self._model.logit_scale.exp())
        self.digest = digest_of(self._model, repr(self._preprocess))

    def images(self, images: np.ndarray) -> torch.Tensor:
        """Unit embeddings (n, width) of uint8 (n, h, w, 3), float32; of the last two arrays
        (images, references) they are kept.
        """
        import torch

        for known, embeddings in self._last:
            if known is images:
                return embeddings
        with torch.inference_mode():
            made: torch.Tensor = self._model.encode_image(
                self._pixels(images), normalize=True
            ).float()
        self._last = [*self._last[-1:], (images, made)]
        return made

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        import torch

        return torch.stack([self._preprocess(Image.fromarray(image)) for image in images]).to(
            self._device
        )

    def patches(self, images: np.ndarray) -> torch.Tensor:
        """Tokens of the image's patches after the first half of the image tower's blocks, before
        any norm: (n, width, rows, columns).
        """
        import torch

        with torch.inference_mode():
            if not self._depth:
                every = self._model.forward_intermediates(
                    self._pixels(images[:1]), intermediates_only=True
                )
                self._depth = len(every["image_intermediates"])
            at = [max(0, self._depth // 2 - 1)]
            made = self._model.forward_intermediates(
                self._pixels(images), image_indices=at, stop_early=True, intermediates_only=True
            )
        tokens: torch.Tensor = made["image_intermediates"][0]
        return tokens.float()

    def texts(self, prompts: list[str], keep: bool = True) -> torch.Tensor:
        """Unit embeddings (n, width) of the prompts; what is beyond the model's context is cut.
        ``keep`` them for the next call.
        """
        import torch

        if not keep:
            with torch.inference_mode():
                single: torch.Tensor = self._model.encode_text(
                    self._tokenizer(prompts).to(self._device), normalize=True
                ).float()
            return single
        fresh = [p for p in dict.fromkeys(prompts) if p not in self._texts]
        if fresh:
            with torch.inference_mode():
                made = self._model.encode_text(
                    self._tokenizer(fresh).to(self._device), normalize=True
                ).float()
            self._texts |= dict(zip(fresh, made, strict=True))
        return torch.stack([self._texts[p] for p in prompts])

    def cosines(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Of each image and its prompt: float64 (n,) in [-1, 1]."""
        import torch

        with torch.inference_mode():
            found: np.ndarray = (
                (self.images(images) * self.texts(prompts)).sum(1).double().cpu().numpy()
            )
        return found.clip(-1, 1)


def digest_of(model: torch.nn.Module, more: str = "") -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a model's weights, as loaded, and of
    ``more``.
    """
    whole = hashlib.sha256(more.encode())
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:12]

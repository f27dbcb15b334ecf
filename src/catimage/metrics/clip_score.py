"""CLIPScore (CATImage 5.1): the cosine of open_clip's image and text embeddings."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from catimage.devices import device_of
from catimage.params import Encoder

if TYPE_CHECKING:
    import torch


class ClipScore:
    """The plain cosine, neither clipped at 0 nor times 100 (0.28 in the paper's Table 1), by the CLIP of ``params.encoder``.

    A prompt is embedded once in the metric's life, however many images are scored against it; what is beyond the model's
    context is cut. Images are resized and normalised as the model's configuration says. ``version`` holds a digest of
    the weights and of that configuration.

    Raises:
        InputError: the model or device is not to be had.
    """

    name = "clip_score"
    higher_is_better = True
    range = (-1.0, 1.0)
    needs_reference = False

    def __init__(self, encoder: Encoder, device: str = "auto") -> None:
        from open_clip import get_model_preprocess_cfg
        from open_clip.transform import PreprocessCfg, image_transform_v2

        from catimage.encoders.open_clip import load_clip

        self._device = device_of(device)
        model, self._tokenizer = load_clip(encoder)
        self._model = model.to(self._device)
        self._preprocess: Any = image_transform_v2(PreprocessCfg(**get_model_preprocess_cfg(model)), is_train=False)
        self._texts: dict[str, torch.Tensor] = {}
        self.version = f"1-{_digest(self._model, repr(self._preprocess))}"

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """uint8 (n, h, w, 3) and n prompts to float64 (n,), in [-1, 1]."""
        import torch

        pixels = torch.stack([self._preprocess(Image.fromarray(image)) for image in images])
        with torch.inference_mode():
            made = self._model.encode_image(pixels.to(self._device), normalize=True)
            cosine: torch.Tensor = (made * self._encoded(prompts)).sum(1)
        return cosine.double().cpu().numpy().clip(*self.range)

    def _encoded(self, prompts: list[str]) -> torch.Tensor:
        """Unit embeddings (n, width) of the prompts; those not seen before are encoded."""
        import torch

        fresh = [p for p in dict.fromkeys(prompts) if p not in self._texts]
        if fresh:
            made = self._model.encode_text(self._tokenizer(fresh).to(self._device), normalize=True)
            self._texts |= dict(zip(fresh, made, strict=True))
        return torch.stack([self._texts[p] for p in prompts])


def _digest(model: torch.nn.Module, preprocess: str) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of weights (as loaded) and preprocessing."""
    whole = hashlib.sha256(preprocess.encode())
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:12]

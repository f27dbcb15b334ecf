"""PickScore (Kirstain et al. 2023): a CLIP ViT-H/14 fine-tuned on the choices of users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catimage.common.devices import device_of
from catimage.errors import InputError, error_summary
from catimage.metrics.clip import SharedClip
from catimage.metrics.metric import Metric, MetricContext
from catimage.metrics.weights import weights_folder

if TYPE_CHECKING:
    import torch

FILES = ["config.json", "model.safetensors"]


class PickScore(Metric):
    """The logit scale of the model (about 100) times the cosine of image and prompt.

    The official example (github.com/yuvalkirstain/PickScore) computes the same score, about 18 to
    24, and then applies a softmax over the images of one prompt, which is omitted here.

    The weights are ``config.json`` and ``model.safetensors`` in the layout of transformers
    (``yuvalkirstain/PickScore_v1`` on the hub). ``label.weights.pick_score`` names a folder with
    these files, or the repository with a revision. There is no default, because no revision is
    published that the files could be verified against. The tokenizer and the preprocessing are
    those of CLIP ViT-H/14, which are part of open_clip.

    Raises:
        InputError: the weights or the device are unavailable.
    """

    name = "pick_score"
    range = (-100.0, 100.0)
    """CLIP limits its logit scale to 100."""

    def __init__(self, context: MetricContext) -> None:
        from open_clip import get_tokenizer
        from open_clip.transform import PreprocessCfg, image_transform_v2

        device_of(context.device)
        model = _TransformersClip(_load(weights_folder(context, self.name, FILES)))
        self._clip = SharedClip(
            model,
            get_tokenizer("ViT-H-14", context_length=model.context_length),
            image_transform_v2(PreprocessCfg(size=model.image_size), is_train=False),
            context.device,
        )
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3), for n prompts."""
        return self._clip.scale * self._clip.cosines(images, prompts)


class _TransformersClip:
    """A CLIP of transformers with the methods of open_clip's models.

    Embeddings always have unit length, whatever the argument ``normalize``.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.logit_scale, self.state_dict = model.logit_scale, model.state_dict
        self.image_size = model.config.vision_config.image_size
        self.context_length = model.config.text_config.max_position_embeddings

    def to(self, device: Any) -> _TransformersClip:
        self._model.to(device)
        return self

    def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
        output = self._model.vision_model(pixel_values=pixels).pooler_output
        return _unit(self._model.visual_projection(output))

    def encode_text(self, ids: torch.Tensor, normalize: bool) -> torch.Tensor:
        output = self._model.text_model(input_ids=ids).pooler_output
        return _unit(self._model.text_projection(output))


def _unit(embeddings: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import normalize

    return normalize(embeddings, dim=-1)


def _load(folder: Path) -> Any:
    """Load the model in ``folder`` in float32.

    Raises:
        InputError: the model is damaged, or is not PickScore.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import CLIPModel

    where = f"params.yaml: label.weights.{PickScore.name}: {folder}"
    try:
        result: Any = CLIPModel.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{where} has no CLIP of transformers ({error_summary(error)}). Put"
            f" {' and '.join(FILES)} there."
        ) from error
    model, loading_info = result
    if loading_info["missing_keys"]:
        missing = sorted(loading_info["missing_keys"])[0]
        raise InputError(
            f"{where} has the weights of another model: the tensor {missing!r} is missing. Use the"
            " weights of yuvalkirstain/PickScore_v1."
        )
    return model.eval().requires_grad_(False)

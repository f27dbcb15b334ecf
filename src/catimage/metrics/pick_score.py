"""PickScore (Kirstain et al. 2023, github.com/yuvalkirstain/PickScore): a CLIP ViT-H/14 fine-tuned
on what users of an app chose.
"""

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
    """The model's logit scale (about 100) times the cosine of image and prompt, as the official
    example scores (about 18 to 24).

    The example's softmax over the images of a prompt is left out: it compares candidates with each
    other.

    The weights are ``config.json`` and ``model.safetensors`` in transformers' layout
    (``yuvalkirstain/PickScore_v1`` on the hub): ``label.weights.pick_score`` names a folder with
    them, or the repository with a revision. There is no default, since no revision of it is
    published anywhere that could be held against it. Tokens and preprocessing are those of CLIP
    ViT-H/14, which come with open_clip.

    Raises:
        InputError: the weights or the device are not to be had.
    """

    name = "pick_score"
    range = (-100.0, 100.0)
    """CLIP caps its logit scale at 100."""

    def __init__(self, context: MetricContext) -> None:
        from open_clip import get_tokenizer
        from open_clip.transform import PreprocessCfg, image_transform_v2

        device_of(context.device)
        towers = _Towers(_load(weights_folder(context, self.name, FILES)))
        tokenizer = get_tokenizer("ViT-H-14", context_length=towers.context)
        self._clip = SharedClip(
            towers,
            tokenizer,
            image_transform_v2(PreprocessCfg(size=towers.size), is_train=False),
            context.device,
        )
        self.version = f"1-{self._clip.digest}"

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """uint8 (n, h, w, 3) and n prompts to float64 (n,)."""
        return self._clip.scale * self._clip.cosines(images, prompts)


class _Towers:
    """A CLIP of transformers, called as open_clip's are."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.logit_scale, self.state_dict = model.logit_scale, model.state_dict
        self.size, self.context = (
            model.config.vision_config.image_size,
            model.config.text_config.max_position_embeddings,
        )

    def to(self, device: Any) -> _Towers:
        self._model.to(device)
        return self

    def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
        return _unit(
            self._model.visual_projection(
                self._model.vision_model(pixel_values=pixels).pooler_output
            )
        )

    def encode_text(self, ids: torch.Tensor, normalize: bool) -> torch.Tensor:
        return _unit(
            self._model.text_projection(self._model.text_model(input_ids=ids).pooler_output)
        )


def _unit(embeddings: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import normalize

    return normalize(embeddings, dim=-1)


def _load(folder: Path) -> Any:
    """The model in ``folder``, in float32.

    Raises:
        InputError: it is damaged, or another model's.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import CLIPModel

    where = f"params.yaml: label.weights.{PickScore.name}: {folder}"
    try:
        loaded: Any = CLIPModel.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{where} holds no CLIP of transformers ({error_summary(error)}); put"
            f" {' and '.join(FILES)} there."
        ) from error
    model, report = loaded
    if report["missing_keys"]:
        lacking = sorted(report["missing_keys"])[0]
        raise InputError(
            f"{where}: its weights lack {lacking!r}: they are another model's; take"
            " yuvalkirstain/PickScore_v1's."
        )
    return model.eval().requires_grad_(False)

"""The generator of the kind ``infinity``: images from the package of Infinity's authors.

The package is in the repository FoundationVision/Infinity. It is called with the arguments of the
authors' inference script.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from catimage.common.devices import device_of
from catimage.errors import error_summary
from catimage.pool.generators.infinity.architecture import (
    BITS,
    DEPTH,
    HEADS,
    TEXT_CONTEXT,
    TEXT_WIDTH,
    WIDTH,
)
from catimage.pool.generators.infinity.package import Package, official_package
from catimage.pool.generators.infinity.spec import InfinitySpec
from catimage.pool.generators.infinity.weights import checkpoints
from catimage.pool.spec import Candidate

_PIXELS = {256: "0.06M", 512: "0.25M", 1024: "1M"}
"""The name of each resolution in the package."""


class InfinityGenerator:
    """Infinity-2B, loaded with the official package.

    Images are generated one at a time, because the package draws the bits of all images of a batch
    from one random generator. An image therefore depends only on prompt, seed and settings.

    Args:
        spec: the generator's settings in the pool file.
        folder: the folder of the pool file.
        device: a device name of torch, or ``auto``.

    Raises:
        InputError: the package, the weights or the device are unavailable.
    """

    def __init__(self, spec: InfinitySpec, folder: Path, device: str = "auto") -> None:
        self.spec = spec
        self.device = device_of(device)
        package = official_package(spec)
        scales = package.resolutions[1.0][_PIXELS[spec.size]]["scales"]
        self._scales = [(1, height, width) for _, height, width in scales]
        self._autoencoder, self._transformer = _load_models(spec, folder, package, self.device)
        self._text_tokenizer, self._text_encoder = _load_text(spec, folder, self.device)

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> dict[str, torch.Tensor]:
        """Return the hidden states (tokens, hidden_size) of each distinct prompt, without padding.

        Prompts of more than 512 tokens are truncated.
        """
        return {prompt: self._hidden_states(prompt) for prompt in dict.fromkeys(prompts)}

    def _hidden_states(self, prompt: str) -> torch.Tensor:
        """Return the hidden states (tokens, hidden_size) of a prompt, without padding."""
        tokens = self._text_tokenizer(
            [prompt],
            max_length=TEXT_CONTEXT,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        hidden_states: torch.Tensor = self._text_encoder(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).last_hidden_state
        return hidden_states[0, : int(tokens.attention_mask.sum())].float()

    def generate(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        encoded: dict[str, torch.Tensor] | None = None,
    ) -> np.ndarray:
        """Generate one image per (prompt, seed) pair.

        Args:
            prompts: n prompts.
            candidate: a candidate of this generator.
            seeds: n seeds.
            encoded: the result of :meth:`encode` for a list that contains these prompts; None
                encodes them in this call.

        Returns:
            uint8 array of shape (n, size, size, 3).

        Raises:
            ValueError: the numbers of prompts and seeds differ.
        """
        spec, text = self.spec.with_settings_of(candidate), encoded or self.encode(prompts)
        return np.stack(
            [
                self._image(spec, text[prompt], seed)
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]
        )

    @torch.no_grad()
    def _image(self, spec: InfinitySpec, text: torch.Tensor, seed: int) -> np.ndarray:
        """Generate one image from the hidden states of its prompt: uint8 (size, size, 3)."""
        tokens, n_scales = len(text), len(self._scales)
        offsets = torch.tensor([0, tokens], dtype=torch.int32, device=self.device)
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16):
            images = self._transformer.autoregressive_infer_cfg(
                vae=self._autoencoder,
                scale_schedule=self._scales,
                label_B_or_BLT=(text, [tokens], offsets, tokens),
                B=1,
                g_seed=seed,
                cfg_list=[spec.guidance] * n_scales,
                tau_list=[spec.temperature] * n_scales,
                cfg_sc=3,
                cfg_insertion_layer=[0],
                top_k=900,
                top_p=0.97,
                returns_vemb=1,
                vae_type=BITS,
                ret_img=True,
                trunk_scale=1000,
                inference_mode=True,
            )[2]
        image: np.ndarray = images[0].cpu().numpy()[..., ::-1]  # the package returns BGR
        return image


_CHANNEL_MULTIPLIERS = [1, 2, 4, 4, 4]
"""Channels of the autoencoder at each level, as multiples of those at the first level."""
_TRANSFORMER_SETTINGS = {
    "text_channels": TEXT_WIDTH,
    "text_maxlen": TEXT_CONTEXT,
    "depth": DEPTH,
    "embed_dim": WIDTH,
    "num_heads": HEADS,
    "drop_path_rate": 0.1,
    "mlp_ratio": 4,
    "block_chunks": 8,
    "shared_aln": True,
    "checkpointing": "full-block",
    "fused_norm": True,
    "pad_to_multiplier": 128,
    "add_lvl_embeding_only_first_block": 1,
    "use_bit_label": 1,
    "rope2d_each_sa_layer": 1,
    "rope2d_normalized_by_hw": 2,
    "apply_spatial_patchify": 0,
    "inference_mode": True,
    "train_h_div_w_list": [1.0],
}
"""Arguments of the authors' inference script for the 2B model."""


def _load_models(
    spec: InfinitySpec, folder: Path, package: Package, device: str
) -> tuple[Any, Any]:
    """Load the autoencoder and the transformer.

    The blocks of the transformer are converted to bfloat16, as in the authors' script.
    """
    from safetensors.torch import load_file

    transformer_file, autoencoder_file = checkpoints(spec, folder)
    autoencoder = package.autoencoder(
        {"vae": load_file(autoencoder_file)},
        "dynamic",
        BITS,
        2**BITS,
        patch_size=16,
        encoder_ch_mult=_CHANNEL_MULTIPLIERS,
        decoder_ch_mult=_CHANNEL_MULTIPLIERS,
        test_mode=True,
    ).to(device)
    transformer = package.transformer(
        vae_local=autoencoder, pn=_PIXELS[spec.size], **_TRANSFORMER_SETTINGS
    )
    missing = transformer.load_state_dict(load_file(transformer_file)).missing_keys
    if missing:
        raise spec.error(
            "weights",
            f"{transformer_file} lacks {len(missing)} tensors of Infinity-2B, such as {missing[0]}."
            " Download it again.",
        )
    transformer.to(device).eval().requires_grad_(False)
    for block in transformer.unregistered_blocks:
        block.bfloat16()
    transformer.rng = torch.Generator(device=device)
    return autoencoder, transformer


def _load_text(spec: InfinitySpec, folder: Path, device: str) -> tuple[Any, Any]:
    """Load the tokenizer and the encoder of Flan-T5; on a GPU, the encoder in float16."""
    from transformers import AutoTokenizer, T5EncoderModel

    encoder: Any
    local = folder / spec.text_encoder
    source = str(local) if local.is_dir() else spec.text_encoder
    # "main" is not used: a hub id always has a revision.
    revision = spec.text_encoder_revision or "main"
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        encoder = T5EncoderModel.from_pretrained(
            source, revision=revision, dtype=dtype, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise spec.error(
            "text_encoder",
            f"cannot load Flan-T5 from {source} ({error_summary(error)}). Check its files.",
        ) from error
    return tokenizer, encoder.to(device).eval()

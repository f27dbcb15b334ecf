"""Small pipelines with random weights of each diffusion architecture that the pools use.

Each has a few thousand parameters and is saved with ``save_pretrained``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

SIZE = 16
_BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}


@dataclass(frozen=True)
class Architecture:
    """A diffusion architecture.

    Attributes:
        pipeline: name of the pipeline class in diffusers.
        parts: function that returns the pipeline's parts; it may write files to a folder.
        settings: settings of a generator in a pool file, other than pipeline and weights.
    """

    pipeline: str
    parts: Callable[[Path], dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)


def save_architecture(name: str, folder: Path) -> Path:
    """Save an untrained pipeline, and return its folder."""
    import diffusers

    architecture = ARCHITECTURES[name]
    torch.manual_seed(3)
    parts = {
        k: v.eval() if isinstance(v, torch.nn.Module) else v
        for k, v in architecture.parts(folder / "tokenizers").items()
    }
    getattr(diffusers, architecture.pipeline)(**parts).save_pretrained(
        folder, safe_serialization=True
    )
    return folder


def generator_entry(name: str, weights: str = "") -> dict[str, Any]:
    """Return the entry of a pool file for a generator of an architecture."""
    architecture = ARCHITECTURES[name]
    return {
        "pipeline": architecture.pipeline,
        "weights": weights or name,
        "size": SIZE,
        "guidance": 2.0,
        **architecture.settings,
    }


def _unet(**options: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        **{
            "sample_size": 8,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "attention_head_dim": 2,
            "cross_attention_dim": 16,
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            **_BLOCKS,
            **options,
        }
    )


def _vae(channels: int = 4, **options: Any) -> Any:
    from diffusers import AutoencoderKL

    types = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    return AutoencoderKL(latent_channels=channels, **types, **_BLOCKS, **options)


def _letters() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def _clip(folder: Path, name: str, projection: bool = False) -> dict[str, Any]:
    """Return a CLIP text encoder of 16 channels and a byte-level tokenizer.

    Args:
        folder: folder for the tokenizer's files.
        name: suffix of the parts' names.
        projection: whether the encoder has a projection.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = clip_tokenizer(folder / f"clip{name}")
    size = len(tokenizer)
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=16,
        max_position_embeddings=77,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    model = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    return {f"text_encoder{name}": model, f"tokenizer{name}": tokenizer}


def clip_tokenizer(folder: Path) -> Any:
    """Save a byte-level CLIP tokenizer without merges in ``folder``, and return it."""
    from transformers import CLIPTokenizer

    letters = _letters()
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizer.from_pretrained(_tokenizer_files(folder, tokens), model_max_length=77)


def _tokenizer_files(folder: Path, tokens: list[str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def _t5(name: str) -> dict[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((chr(c), -2.0) for c in range(97, 123)),
        ("▁", -2.0),
    ]
    unigrams = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    unigrams.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = T5TokenizerFast(
        tokenizer_object=unigrams, vocab=pieces, extra_ids=0, model_max_length=32
    )
    config = T5Config(
        vocab_size=len(pieces), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    return {f"text_encoder{name}": T5EncoderModel(config), f"tokenizer{name}": tokenizer}


def _qwen_tokenizer(folder: Path) -> Any:
    from transformers import Qwen2Tokenizer

    tokens = [*_letters(), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer.from_pretrained(_tokenizer_files(folder / "qwen", tokens))
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    return tokenizer


_QWEN = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def _sd(folder: Path, **unet: Any) -> dict[str, Any]:
    from diffusers import EulerDiscreteScheduler

    return {
        "unet": _unet(**unet),
        "vae": _vae(),
        "scheduler": EulerDiscreteScheduler(),
        **_clip(folder, ""),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _sd2(folder: Path) -> dict[str, Any]:
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(prediction_type="v_prediction")
    return _sd(folder, use_linear_projection=True, attention_head_dim=(2, 4)) | {
        "scheduler": scheduler
    }


def _lcm(folder: Path) -> dict[str, Any]:
    from diffusers import LCMScheduler

    return _sd(folder, time_cond_proj_dim=8) | {"scheduler": LCMScheduler()}


def _sdxl(folder: Path) -> dict[str, Any]:
    from diffusers import EulerDiscreteScheduler

    unet = _unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 16,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        cross_attention_dim=32,
    )
    texts = _clip(folder, "") | _clip(folder, "_2", projection=True)
    return {"unet": unet, "vae": _vae(), "scheduler": EulerDiscreteScheduler(), **texts}


def _flow(**options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


def _flux(folder: Path) -> dict[str, Any]:
    from diffusers import FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=True,
    )
    vae = _vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1)
    return {
        "transformer": transformer,
        "vae": vae,
        "scheduler": _flow(use_dynamic_shifting=True),
        **_clip(folder, ""),
        **_t5("_2"),
    }


def _sd3(folder: Path) -> dict[str, Any]:
    from diffusers import SD3Transformer2DModel

    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
    )
    vae = _vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1)
    texts = _clip(folder, "", projection=True) | _clip(folder, "_2", projection=True)
    t5 = _t5("_3")
    t5["text_encoder_3"] = type(t5["text_encoder_3"])(_wider(t5["text_encoder_3"].config))
    return {"transformer": transformer, "vae": vae, "scheduler": _flow(shift=3.0), **texts, **t5}


def _wider(config: Any) -> Any:
    """Set T5's width to that of both CLIP text encoders together, as in Stable Diffusion 3."""
    config.d_model = 32
    return config


def _z_image(folder: Path) -> dict[str, Any]:
    from diffusers import ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[2, 2, 4],
        axes_lens=[256, 32, 32],
    )
    vae = _vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1)
    text = Qwen3Model(Qwen3Config(head_dim=8, **_QWEN))
    return {
        "transformer": transformer,
        "vae": vae,
        "scheduler": _flow(shift=3.0),
        "text_encoder": text,
        "tokenizer": _qwen_tokenizer(folder),
    }


def _flux2_klein(folder: Path) -> dict[str, Any]:
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    types = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    vae = AutoencoderKLFlux2(latent_channels=4, **types, **_BLOCKS)
    text = Qwen3ForCausalLM(Qwen3Config(head_dim=8, **_QWEN))
    scheduler = _flow(use_dynamic_shifting=True)
    parts = {
        "transformer": transformer,
        "vae": vae,
        "scheduler": scheduler,
        "text_encoder": text,
        "tokenizer": _qwen_tokenizer(folder),
    }
    return parts | {"is_distilled": True}


def _qwen_image(folder: Path) -> dict[str, Any]:
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel

    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(2, 2, 4),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return {
        "transformer": transformer,
        "vae": vae,
        "scheduler": _flow(use_dynamic_shifting=True, shift_terminal=0.02),
        "text_encoder": _qwen_vl(),
        "tokenizer": _qwen_tokenizer(folder),
    }


def _qwen_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
    }
    rope = {"type": "default", "mrope_section": [1, 1, 2]}
    text = {**_QWEN, "rope_scaling": rope, "bos_token_id": 256, "eos_token_id": 256}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    )


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "sd": Architecture("StableDiffusionPipeline", _sd),
        "sd2": Architecture("StableDiffusionPipeline", _sd2),
        "lcm": Architecture("LatentConsistencyModelPipeline", _lcm, {"guidance_kind": "distilled"}),
        "sdxl": Architecture("StableDiffusionXLPipeline", _sdxl),
        "flux": Architecture(
            "FluxPipeline",
            _flux,
            {"guidance_kind": "distilled", "call": {"max_sequence_length": 32}},
        ),
        "sd3": Architecture(
            "StableDiffusion3Pipeline", _sd3, {"call": {"max_sequence_length": 32}}
        ),
        "z-image": Architecture("ZImagePipeline", _z_image, {"call": {"max_sequence_length": 64}}),
        "flux2-klein": Architecture(
            "Flux2KleinPipeline",
            _flux2_klein,
            {
                "guidance": 1.0,
                "call": {"max_sequence_length": 64, "text_encoder_out_layers": [0, 1, 2]},
            },
        ),
        "qwen-image": Architecture("QwenImagePipeline", _qwen_image, {"guidance_kind": "true-cfg"}),
    }
)

"""Small pipelines with random weights, one per diffusion architecture that the tests cover.

The pipelines are saved with ``save_pretrained``.
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
"""Width and height of the images in pixels."""
_BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}


@dataclass(frozen=True)
class Architecture:
    """A diffusion architecture.

    Attributes:
        pipeline: name of the pipeline class in diffusers.
        parts: function that returns the parts of the pipeline by name. Its argument is a folder for
            the files of tokenizers.
        settings: further settings of the generator in a pool file.
    """

    pipeline: str
    parts: Callable[[Path], dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)


def save_architecture(name: str, folder: Path) -> Path:
    """Save an untrained pipeline of the architecture ``name``, and return the folder."""
    import diffusers

    architecture = ARCHITECTURES[name]
    torch.manual_seed(3)
    parts = {
        key: part.eval() if isinstance(part, torch.nn.Module) else part
        for key, part in architecture.parts(folder / "tokenizers").items()
    }
    getattr(diffusers, architecture.pipeline)(**parts).save_pretrained(
        folder, safe_serialization=True
    )
    return folder


def generator_entry(name: str, weights: str = "") -> dict[str, Any]:
    """Return the entry of a generator in a pool file.

    Args:
        name: name of the architecture.
        weights: the folder of the pipeline, relative to the pool file; by default ``name``.
    """
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

    block_types = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    return AutoencoderKL(latent_channels=channels, **block_types, **_BLOCKS, **options)


def _byte_characters() -> list[str]:
    """Return the characters that represent single bytes in byte-level tokenizers."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def _clip(folder: Path, name: str, projection: bool = False) -> dict[str, Any]:
    """Return a CLIP text encoder of 16 channels and a byte-level tokenizer, by name of the part.

    Args:
        folder: folder for the files of the tokenizer.
        name: suffix of the names of both parts.
        projection: whether the encoder has a projection layer.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = clip_tokenizer(folder / f"clip{name}")
    vocabulary_size = len(tokenizer)
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=16,
        max_position_embeddings=77,
        bos_token_id=vocabulary_size - 2,
        eos_token_id=vocabulary_size - 1,
        pad_token_id=vocabulary_size - 1,
    )
    model = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    return {f"text_encoder{name}": model, f"tokenizer{name}": tokenizer}


def clip_tokenizer(folder: Path) -> Any:
    """Save a byte-level CLIP tokenizer without merges in ``folder``, and return it."""
    from transformers import CLIPTokenizer

    characters = _byte_characters()
    tokens = [
        *characters,
        *(f"{character}</w>" for character in characters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizer.from_pretrained(_save_tokenizer_files(folder, tokens), model_max_length=77)


def _save_tokenizer_files(folder: Path, tokens: list[str]) -> Path:
    """Write the vocabulary and an empty list of merges, and return the folder."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def _t5(name: str, width: int = 16) -> dict[str, Any]:
    """Return a T5 text encoder of ``width`` channels and its tokenizer, by name of the part.

    ``name`` is the suffix of the names of both parts.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((chr(c), -2.0) for c in range(97, 123)),
        ("▁", -2.0),
    ]
    model = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = T5TokenizerFast(
        tokenizer_object=model, vocab=pieces, extra_ids=0, model_max_length=32
    )
    config = T5Config(
        vocab_size=len(pieces), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    return {f"text_encoder{name}": T5EncoderModel(config), f"tokenizer{name}": tokenizer}


def _qwen_tokenizer(folder: Path) -> Any:
    from transformers import Qwen2Tokenizer

    tokens = [*_byte_characters(), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer.from_pretrained(_save_tokenizer_files(folder / "qwen", tokens))
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
    text_parts = _clip(folder, "") | _clip(folder, "_2", projection=True)
    return {"unet": unet, "vae": _vae(), "scheduler": EulerDiscreteScheduler(), **text_parts}


def _flow_scheduler(**options: Any) -> Any:
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
        "scheduler": _flow_scheduler(use_dynamic_shifting=True),
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
    text_parts = _clip(folder, "", projection=True) | _clip(folder, "_2", projection=True)
    t5 = _t5("_3", width=32)  # the width of both CLIP text encoders together
    return {
        "transformer": transformer,
        "vae": vae,
        "scheduler": _flow_scheduler(shift=3.0),
        **text_parts,
        **t5,
    }


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
    text_encoder = Qwen3Model(Qwen3Config(head_dim=8, **_QWEN))
    return {
        "transformer": transformer,
        "vae": vae,
        "scheduler": _flow_scheduler(shift=3.0),
        "text_encoder": text_encoder,
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
    block_types = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    vae = AutoencoderKLFlux2(latent_channels=4, **block_types, **_BLOCKS)
    text_encoder = Qwen3ForCausalLM(Qwen3Config(head_dim=8, **_QWEN))
    scheduler = _flow_scheduler(use_dynamic_shifting=True)
    parts = {
        "transformer": transformer,
        "vae": vae,
        "scheduler": scheduler,
        "text_encoder": text_encoder,
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
        "scheduler": _flow_scheduler(use_dynamic_shifting=True, shift_terminal=0.02),
        "text_encoder": _qwen_vl(),
        "tokenizer": _qwen_tokenizer(folder),
    }


def _qwen_vl() -> Any:
    """Return the text encoder of Qwen-Image, a vision-language model."""
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

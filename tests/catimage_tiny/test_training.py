"""The training code runs for a step or two, and what it writes is what diffusers, transformers and
open_clip load.
"""

import numpy as np
import pytest
import torch

from catimage_tiny.autoencoder import new_autoencoder, pixels_to_tensor, train_autoencoder
from catimage_tiny.clip import train_clip
from catimage_tiny.data import make_scenes
from catimage_tiny.denoiser import (
    Examples,
    encode_captions,
    encode_latents,
    new_denoiser,
    save_lora,
    text_encoder_from,
    train_denoiser,
    with_lora,
)
from catimage_tiny.pipeline import assemble
from catimage_tiny.schedule import cosine_rate


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    scenes = make_scenes(16, seed=0)
    train_clip(scenes.images, scenes.captions, folder / "clip", steps=2, batch=8)
    train_autoencoder(new_autoencoder(), scenes.images, folder / "vae", steps=2, batch=4)
    from diffusers import AutoencoderKL

    text_encoder, tokenizer = text_encoder_from(folder / "clip")
    words = encode_captions(text_encoder, tokenizer, scenes.captions, "cpu")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    latents = encode_latents(vae, scenes.images, "cpu")
    train_denoiser(
        new_denoiser(), Examples(latents, words, words[0]), folder / "unet", steps=2, batch=4
    )
    for name in ("lightning", "turbo"):
        train_denoiser(
            new_denoiser(), Examples(latents, words, words[0]), folder / name, steps=1, batch=4
        )
    adapted = with_lora(new_denoiser(), rank=2)
    train_denoiser(
        adapted,
        Examples(latents, words, words[0]),
        folder / "patterns",
        steps=2,
        batch=4,
        save=save_lora,
    )
    assemble(folder, folder / "out")
    return folder, scenes, latents, words


def test_shapes_of_what_is_learned_on(trained):
    _, scenes, latents, words = trained
    assert latents.shape == (len(scenes.images), 6, 16, 16) and torch.isfinite(latents).all()
    assert words.shape == (len(scenes.images), 40, 128)


def test_transformers_text_encoder_equals_open_clips(trained):
    import open_clip

    folder, scenes, _, words = trained
    model = open_clip.create_model(f"local-dir:{folder / 'clip'}").eval()
    ids = open_clip.get_tokenizer(f"local-dir:{folder / 'clip'}")(scenes.captions)
    with torch.no_grad():
        x = model.transformer(
            model.token_embedding(ids) + model.positional_embedding, attn_mask=model.attn_mask
        )
        assert torch.allclose(model.ln_final(x), words.float(), atol=5e-3)


def test_stable_diffusion_loads_the_pipeline_as_it_is(trained):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(trained[0] / "out" / "sd")
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        ["a red moon"], num_inference_steps=2, guidance_scale=3.0, output_type="np"
    ).images
    assert images.shape == (1, 64, 64, 3) and np.isfinite(images).all()


def test_the_distilled_denoisers_fit_into_the_pipeline(trained):
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    folder = trained[0] / "out"
    for name in ("lightning", "turbo"):
        unet = UNet2DConditionModel.from_pretrained(folder / name, torch_dtype=torch.float32)
        pipeline = StableDiffusionPipeline.from_pretrained(folder / "sd", unet=unet)
        pipeline.set_progress_bar_config(disable=True)
        assert np.isfinite(
            pipeline(
                ["a red moon"], num_inference_steps=1, guidance_scale=1.0, output_type="np"
            ).images
        ).all()


def test_an_adapter_is_small_fits_the_pipeline_and_freezes_the_rest(trained):
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    folder = trained[0] / "out"
    weights = load_file(folder / "patterns" / "pytorch_lora_weights.safetensors")
    assert sum(w.numel() for w in weights.values()) < 200_000 and {
        w.dtype for w in weights.values()
    } == {torch.float16}
    assert all(".lora_A." in name or ".lora_B." in name for name in weights)
    assert any(
        w.abs().max() > 0 for name, w in weights.items() if ".lora_B." in name
    )  # which begin as zeros
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "sd")
    pipeline.load_lora_weights(folder / "patterns")
    assert all(
        "lora" in name
        for name, p in with_lora(new_denoiser(), rank=2).named_parameters()
        if p.requires_grad
    )


def test_a_clip_goes_on_from_another(trained, tmp_path):
    from safetensors.torch import load_file

    folder, scenes = trained[:2]
    train_clip(
        scenes.images,
        scenes.captions,
        tmp_path / "clip",
        steps=1,
        batch=8,
        rate=1e-9,
        start=folder / "clip",
    )
    before, after = (
        load_file(f / "clip" / "open_clip_model.safetensors") for f in (folder, tmp_path)
    )
    assert all(torch.allclose(before[name], after[name], atol=1e-3) for name in before)
    assert (folder / "clip" / "vocab.json").read_bytes() == (
        tmp_path / "clip" / "vocab.json"
    ).read_bytes()


def test_the_denoiser_keeps_its_budget_of_operations():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        new_denoiser()(torch.zeros(1, 6, 16, 16), torch.tensor([1]), torch.zeros(1, 40, 128))
    assert counter.get_total_flops() <= 0.3e9


def test_pixels_and_rates():
    assert pixels_to_tensor(
        np.array([[[[0, 255, 51]]]], np.uint8)
    ).flatten().tolist() == pytest.approx([-1, 1, -0.6])
    assert (
        cosine_rate(0, 1000, 1.0) == 0.01
        and cosine_rate(100, 1000, 1.0) == 1.0
        and cosine_rate(1000, 1000, 1.0) == pytest.approx(0.02)
    )

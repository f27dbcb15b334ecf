"""diffusers, transformers and open_clip load the trained parts, which have the expected shapes."""

import numpy as np
import pytest
import torch

from catimage_tiny.autoencoder import encode_latents
from catimage_tiny.data import normalize_pixels, render_scenes, training_scenes
from catimage_tiny.denoiser import add_lora, new_denoiser, save_lora
from catimage_tiny.recipe import SceneSet
from catimage_tiny.text_encoder import encode_captions, text_encoder_from

PROMPT = ["a red moon"]


@pytest.fixture(scope="module")
def scenes():
    return render_scenes(seed=0, pairs=8)


@pytest.fixture(scope="module")
def text(trained_pool, scenes):
    return encode_captions(*text_encoder_from(trained_pool.build / "clip"), scenes.captions)


def test_latents_and_hidden_states_have_the_expected_shapes(trained_pool, scenes, text):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(trained_pool.build / "vae")
    latents = encode_latents(vae, torch.from_numpy(scenes.images), batch_size=5)
    assert latents.shape == (16, 6, 16, 16) and torch.isfinite(latents).all()
    assert latents.dtype == text.dtype == torch.float16
    assert text.shape == (16, 40, 128)


def test_training_scenes_do_not_depend_on_the_number_of_workers(tmp_path):
    scene_set = SceneSet("few", ("simple",), pairs_per_chunk=1, first_seed=5)
    one = training_scenes(tmp_path / "one", scene_set, workers=1)
    two = training_scenes(tmp_path / "two", scene_set, workers=2)
    again = training_scenes(tmp_path / "one", scene_set)
    assert one.captions == two.captions == again.captions and len(one.captions) == scene_set.scenes
    assert (one.images == two.images).all() and (one.images == again.images).all()


def test_the_text_encoders_of_transformers_and_open_clip_agree(trained_pool, scenes, text):
    import open_clip

    name = f"local-dir:{trained_pool.build / 'clip'}"
    model, tokenizer = open_clip.create_model(name).eval(), open_clip.get_tokenizer(name)
    ids = tokenizer(scenes.captions)
    with torch.no_grad():
        x = model.token_embedding(ids) + model.positional_embedding
        expected = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
    assert torch.allclose(expected, text.float(), atol=5e-3)


def _generate(pipeline, **settings):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(PROMPT, output_type="np", **settings).images


def test_stable_diffusion_pipeline_loads_and_generates_images(trained_pool):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(trained_pool.out / "sd")
    images = _generate(pipeline, num_inference_steps=2, guidance_scale=3.0)
    assert images.shape == (1, 64, 64, 3) and np.isfinite(images).all()


@pytest.mark.parametrize("name", ["lightning", "turbo"])
def test_a_distilled_denoiser_generates_images_in_the_pipeline(trained_pool, name):
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(trained_pool.out / name, torch_dtype=torch.float32)
    pipeline = StableDiffusionPipeline.from_pretrained(trained_pool.out / "sd", unet=unet)
    images = _generate(pipeline, num_inference_steps=1, guidance_scale=1.0)
    assert np.isfinite(images).all()


def test_the_adapter_is_trained_and_the_pipeline_loads_it(trained_pool):
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    folder = trained_pool.out / "patterns"
    weights = load_file(folder / "pytorch_lora_weights.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float16}
    assert all(".lora_A." in name or ".lora_B." in name for name in weights)
    lora_b = [w for name, w in weights.items() if ".lora_B." in name]  # zeros before training
    assert any(w.abs().max() > 0 for w in lora_b)
    StableDiffusionPipeline.from_pretrained(trained_pool.out / "sd").load_lora_weights(folder)


def test_an_adapter_is_small_and_freezes_the_other_weights(tmp_path):
    from safetensors.torch import load_file

    net = add_lora(new_denoiser(), rank=2)
    assert all("lora" in name for name, p in net.named_parameters() if p.requires_grad)
    save_lora(net, tmp_path)
    weights = load_file(tmp_path / "pytorch_lora_weights.safetensors")
    assert sum(w.numel() for w in weights.values()) < 200_000


def test_a_pass_of_the_denoiser_takes_at_most_0_3_gflop():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        new_denoiser()(torch.zeros(1, 6, 16, 16), torch.tensor([1]), torch.zeros(1, 40, 128))
    assert counter.get_total_flops() <= 0.3e9


def test_pixels_are_scaled_to_the_range_from_minus_one_to_one():
    pixels = normalize_pixels(torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8))
    assert pixels.shape == (1, 3, 1, 1)
    assert pixels.flatten().tolist() == pytest.approx([-1, 1, -0.6])

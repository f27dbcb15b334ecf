"""Losses of the next-scale generator, short training runs, and the saved model."""

import math

import pytest
import torch

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.next_scale.model import NextScaleArchitecture, NextScaleModel
from catimage.pool.generators.next_scale.quantiser import quantise
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate
from catimage_tiny.autoencoder import reconstruction_loss
from catimage_tiny.data import normalize_pixels, render_scenes
from catimage_tiny.next_scale import (
    ARCHITECTURE,
    ImageTokenizer,
    bit_loss,
    bit_losses,
    encode_features,
    image_tokenizer_loss,
    save_next_scale,
    scale_inputs,
    sums_to_decode,
)
from catimage_tiny.recipe import PartSettings
from catimage_tiny.training import fit
from tests.pool.generators.next_scale.miniature import save_generator, spec_of

SMALL = NextScaleArchitecture(
    bits=6,
    scales=(1, 2, 4, 8),
    width=32,
    layers=2,
    heads=2,
    expansion=2,
    text_width=16,
    decoder_widths=(16, 8, 8),
)


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(render_scenes(seed=0, pairs=8).images)


@torch.no_grad()
def _error(image_tokenizer, images):
    pixels = normalize_pixels(images)
    sums = quantise(image_tokenizer.encoder(pixels), SMALL.scales).sums
    return reconstruction_loss(image_tokenizer.decoder(sums[-1]), pixels).item()


def test_training_reduces_the_error_of_the_image_tokenizer(images):
    torch.manual_seed(0)
    image_tokenizer = ImageTokenizer(SMALL, (16, 8))
    before = _error(image_tokenizer, images)
    settings = PartSettings(updates=40, batch_size=4, learning_rate=1e-2)
    fit(
        image_tokenizer,
        lambda: image_tokenizer_loss(image_tokenizer, images, 4),
        settings,
        "image_tokenizer",
    )
    assert _error(image_tokenizer, images) < 0.75 * before


def test_the_transformer_learns_bits_from_text():
    torch.manual_seed(0)
    features, text = torch.randn(8, SMALL.bits, 8, 8), torch.randn(8, 5, SMALL.text_width)
    model = NextScaleModel(SMALL).transformer
    settings = PartSettings(updates=40, batch_size=8, learning_rate=1e-2)
    fit(model, lambda: bit_loss(model, features, text, SMALL.scales), settings, "transformer")
    with torch.no_grad():
        loss = bit_loss(model, features, text, SMALL.scales).item()
        other_text = bit_loss(model, features, text.roll(1, 0), SMALL.scales).item()
    assert loss < 0.9 * math.log(2) and loss < other_text - 0.02


def test_the_input_of_a_scale_is_the_sum_of_the_codes_of_coarser_scales():
    quantised = quantise(torch.randn(2, 6, 8, 8), SMALL.scales)
    inputs = scale_inputs(quantised.sums, SMALL.scales)
    assert inputs.shape == (2, 85, 6) and (inputs[:, 0] == 0).all()
    third = torch.nn.functional.avg_pool2d(quantised.sums[1], 2)
    # The third scale starts at position 5, the fourth at position 21.
    assert torch.allclose(inputs[:, 5 + 4 * 2 + 3], third[:, :, 2, 3], atol=1e-6)
    assert torch.equal(inputs[:, 21 + 8 * 5 + 6], quantised.sums[2][:, :, 5, 6])


def test_the_entropy_loss_is_lowest_for_certain_and_balanced_bits():
    features = 50 * torch.sign(torch.randn(200, 6, 8, 8))
    certain = bit_losses(quantise(features, (8,)), features)[0].item()
    undecided = bit_losses(quantise(0 * features, (8,)), features)[0].item()
    constant = bit_losses(quantise(features.abs(), (8,)), features)[0].item()
    assert certain == pytest.approx(-math.log(2), abs=1e-3)
    assert undecided == pytest.approx(0, abs=1e-3) and constant == pytest.approx(0, abs=1e-3)


def test_the_commitment_loss_is_the_squared_distance_to_the_codes():
    features = torch.full((1, 4, 1, 1), 2.0)  # the entries of the code are 1/2
    assert bit_losses(quantise(features, (1,)), features)[1].item() == pytest.approx(
        (2.0 - 0.5) ** 2 * 4
    )


def test_a_share_of_images_is_decoded_from_coarse_scales():
    quantised = quantise(torch.randn(400, 6, 8, 8), SMALL.scales)
    is_complete = (sums_to_decode(quantised, 0.25) == quantised.sums[-1]).flatten(1).all(1)
    assert (
        0.6 < is_complete.float().mean() < 0.9
        and (sums_to_decode(quantised, 0) == quantised.sums[-1]).all()
    )
    coarse = sums_to_decode(quantised, 1)
    assert all((coarse == s).flatten(1).all(1).sum() > 80 for s in quantised.sums[:-1])


def test_a_pool_loads_the_saved_model(images, tmp_path):
    save_generator(tmp_path)
    image_tokenizer, transformer = ImageTokenizer(), NextScaleModel(ARCHITECTURE).transformer
    save_next_scale(image_tokenizer, transformer, tmp_path / "bits")
    generator = kind_of(spec_of(size=64), tmp_path).load(DeviceMemory("cpu"))
    candidate = Candidate(candidate="c", generator="g", steps=6)
    assert generator.generate(["a red moon"], candidate, [0]).shape == (1, 64, 64, 3)
    assert encode_features(image_tokenizer, images[:3]).shape == (3, 24, 8, 8)


def test_the_shipped_model_takes_at_most_6_megabytes_in_fp16():
    assert sum(p.numel() for p in NextScaleModel(ARCHITECTURE).parameters()) * 2 < 6e6

"""The next-scale generator's training: what it learns from, that it learns, and that a pool can
load what it wrote.
"""

import math

import pytest
import torch

from catimage.pool.generators.next_scale.model import Architecture, NextScaleModel
from catimage.pool.generators.next_scale.quantiser import quantise
from catimage.pool.spec import Candidate
from catimage_tiny.autoencoder import pixels_to_tensor, reconstruction_loss
from catimage_tiny.data import make_scenes
from catimage_tiny.denoiser import Examples
from catimage_tiny.next_scale import (
    SHAPE,
    Tokenizer,
    assemble_next_scale,
    bit_loss,
    bit_losses,
    decoded_sums,
    encode_features,
    scale_inputs,
    train_tokenizer,
    train_transformer,
)
from tests.pool.generators.next_scale.miniature import save_generator, spec_of

SMALL = Architecture(
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
def scenes():
    return make_scenes(8, seed=0)


@torch.no_grad()
def _error(tokenizer, images):
    pixels = pixels_to_tensor(images)
    return reconstruction_loss(
        tokenizer.decoder(quantise(tokenizer.encoder(pixels), SMALL.scales).sums[-1]), pixels
    ).item()


def test_the_tokenizer_learns(scenes, tmp_path):
    torch.manual_seed(0)
    tokenizer = Tokenizer(SMALL, (16, 8))
    before = _error(tokenizer, scenes.images)
    train_tokenizer(tokenizer, scenes.images, tmp_path, steps=40, batch=4)
    assert _error(tokenizer, scenes.images) < 0.75 * before


def test_the_transformer_learns_bits_from_words(tmp_path):
    torch.manual_seed(0)
    features, words = torch.randn(8, SMALL.bits, 8, 8), torch.randn(8, 5, SMALL.text_width)
    model = NextScaleModel(SMALL).transformer
    examples = Examples(features.half(), words.half(), torch.zeros(5, SMALL.text_width))
    train_transformer(model, examples, tmp_path, steps=40, batch=8, rate=5e-3, scales=SMALL.scales)
    with torch.no_grad():
        told = bit_loss(model, features, words, SMALL.scales).item()
        mistold = bit_loss(model, features, words.roll(1, 0), SMALL.scales).item()
    assert told < 0.9 * math.log(2) and told < mistold - 0.02


def test_what_is_seen_of_a_scale_is_the_sum_of_those_before():
    made = quantise(torch.randn(2, 6, 8, 8), SMALL.scales)
    seen = scale_inputs(made.sums, SMALL.scales)
    assert seen.shape == (2, 85, 6) and (seen[:, 0] == 0).all()
    third = torch.nn.functional.avg_pool2d(made.sums[1], 2)
    assert torch.allclose(seen[:, 5 + 4 * 2 + 3], third[:, :, 2, 3], atol=1e-6)
    assert torch.equal(seen[:, 21 + 8 * 5 + 6], made.sums[2][:, :, 5, 6])


def test_bits_are_best_certain_and_even():
    features = 50 * torch.sign(torch.randn(200, 6, 8, 8))
    certain = bit_losses(quantise(features, (8,)), features)[0].item()
    undecided = bit_losses(quantise(0 * features, (8,)), features)[0].item()
    idle = bit_losses(quantise(features.abs(), (8,)), features)[0].item()
    assert certain == pytest.approx(-math.log(2), abs=1e-3)
    assert undecided == pytest.approx(0, abs=1e-3) and idle == pytest.approx(0, abs=1e-3)


def test_commitment_is_the_distance_in_units_of_a_code():
    features = torch.full((1, 4, 1, 1), 2.0)  # two codes of 1/2 leave 1 over: two units
    assert bit_losses(quantise(features, (1,)), features)[1].item() == pytest.approx(
        (2.0 - 0.5) ** 2 * 4
    )


def test_a_share_is_decoded_from_its_first_scales():
    made = quantise(torch.randn(400, 6, 8, 8), SMALL.scales)
    whole = (decoded_sums(made, 0.25) == made.sums[-1]).flatten(1).all(1)
    assert 0.6 < whole.float().mean() < 0.9 and (decoded_sums(made, 0) == made.sums[-1]).all()
    first = decoded_sums(made, 1)
    assert all((first == s).flatten(1).all(1).sum() > 80 for s in made.sums[:-1])


def test_a_pool_loads_what_was_trained(scenes, tmp_path):
    save_generator(tmp_path)
    tokenizer = Tokenizer()
    torch.save(tokenizer.state_dict(), tmp_path / "tokenizer.pt")
    torch.save(NextScaleModel(SHAPE).transformer.state_dict(), tmp_path / "transformer.pt")
    assemble_next_scale(tmp_path, tmp_path / "bits")
    images = (
        spec_of(size=64)
        .open(tmp_path, "cpu")
        .generate(["a red moon"], Candidate(candidate="c", generator="g", steps=6), [0])
    )
    assert images.shape == (1, 64, 64, 3)
    assert encode_features(tokenizer, scenes.images[:3]).shape == (3, 24, 8, 8)


def test_the_shipped_shape_keeps_its_budget():
    assert sum(p.numel() for p in NextScaleModel(SHAPE).parameters()) * 2 < 6e6

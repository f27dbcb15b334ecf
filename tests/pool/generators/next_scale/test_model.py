"""Sampling compared with a loop without a cache, and validation of architectures."""

import pytest
import torch
from pydantic import ValidationError

from catimage.pool.generators.next_scale.model import (
    NextScaleArchitecture,
    Sampling,
    draw_thresholds,
    sample,
)
from catimage.pool.generators.next_scale.quantiser import codes, downscale, upscale
from catimage.pool.generators.next_scale.transformer import tokens_of
from tests.pool.generators.next_scale.miniature import SHAPE, random_model


def _texts(n):
    """Return random hidden states of n prompts."""
    return torch.randn(n, 6, SHAPE.text_width, generator=torch.Generator().manual_seed(4))


def _sample_without_cache(model, text, empty, thresholds, sampling):
    """Sample without a cache: each call of the model gets the inputs of all scales so far."""
    inputs, total, first = [], torch.zeros(len(text), SHAPE.bits, 4, 4), 0
    for side in SHAPE.scales[: sampling.steps]:
        inputs.append(tokens_of(downscale(total, side)))
        conditional, _ = model(torch.cat(inputs, 1), model.project_text(text))
        unconditional, _ = model(torch.cat(inputs, 1), model.project_text(empty))
        guided = unconditional + sampling.guidance * (conditional - unconditional)
        logits = guided[:, first:] / sampling.temperature
        bits = thresholds[:, first : first + side * side] < 1 / (1 + torch.exp(-logits))
        maps = torch.stack([bits[:, i * side : (i + 1) * side] for i in range(side)], 1).permute(
            0, 3, 1, 2
        )
        total, first = total + upscale(codes(maps), 4), first + side * side
    return total


@pytest.mark.parametrize(
    "sampling", [Sampling(3, 1.0, 1.0), Sampling(3, 2.5, 0.7), Sampling(2, 2.5, 1.0)]
)
@torch.no_grad()
def test_sampling_with_and_without_a_cache_gives_the_same_sums(sampling):
    model, text = random_model().transformer, _texts(3)
    empty = _texts(4)[3:].expand_as(text)
    thresholds = draw_thresholds([5, 6, 7], SHAPE.tokens(sampling.steps), SHAPE.bits)
    texts = torch.cat([text, empty]) if sampling.guided else text
    sums = sample(model, SHAPE.scales, texts, thresholds, sampling)
    assert torch.allclose(
        sums, _sample_without_cache(model, text, empty, thresholds, sampling), atol=1e-5
    )


@torch.no_grad()
def test_a_temperature_near_zero_selects_the_more_probable_bit():
    model, text = random_model().transformer, _texts(2)
    near_zero = Sampling(3, 1.0, 1e-6)
    sums = [
        sample(model, SHAPE.scales, text, draw_thresholds(seeds, 21, SHAPE.bits), near_zero)
        for seeds in ([1, 2], [3, 4])
    ]
    assert torch.equal(*sums)


def test_the_thresholds_of_coarse_scales_do_not_depend_on_the_number_of_scales():
    assert torch.equal(draw_thresholds([9], 5, 4), draw_thresholds([9], 21, 4)[:, :5])
    assert SHAPE.tokens(1) == 1 and SHAPE.tokens(3) == 21 and SHAPE.size == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": (1, 4, 2)}, "scales must be positive integers in ascending order"),
        ({"scales": (0, 2)}, "scales must be positive integers in ascending order"),
        ({"heads": 5}, "width must be a multiple of heads"),
        ({"decoder_widths": (16, 8, 4)}, "decoder_widths must be multiples of 8"),
        ({"layer": 3}, "Extra inputs"),
    ],
)
def test_invalid_architectures_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        NextScaleArchitecture.model_validate(SHAPE.model_dump() | change)

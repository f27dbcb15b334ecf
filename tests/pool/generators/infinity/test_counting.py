"""Costs of Infinity-2B, counted without the official package and without weights."""

import pytest
import torch

from catimage.pool.generators.infinity import counting
from catimage.pool.generators.infinity.architecture import DEPTH, SCALES, SIDES, WIDTH, Transformer


def test_the_transformer_has_about_two_billion_parameters():
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Transformer().parameters())
    assert 2.0e9 < parameters < 2.21e9


@pytest.mark.parametrize("size", SCALES)
def test_the_count_equals_its_closed_form(size: int):
    """Compare the count with closed forms.

    The projections of a block take 2 x 14 width^2 operations per image token, and 2 x 2 width^2 per
    text token, once for each scale. Attention takes 4 width operations per pair of a query and a
    key.
    """
    sides, text, seen, products = SIDES[: SCALES[size]], counting.PROMPT_TOKENS, 0, 0.0
    tokens = sum(side**2 for side in sides)
    projections = 2.0 * DEPTH * WIDTH**2 * (14 * tokens + 2 * text * len(sides))
    for side in sides:
        seen += side**2
        products += 4 * DEPTH * WIDTH * side**2 * (seen + text)
    paper, full = (
        counting.transformer_tflops(size, convention) for convention in ("paper", "full")
    )
    # The tolerance covers the layers outside the blocks, which are not in the closed form.
    assert paper * 1e12 == pytest.approx(projections, rel=0.005)
    assert (full - paper) * 1e12 == pytest.approx(products, rel=0.001)
    assert sides[-1] * 16 == size


def test_no_resolution_has_the_cost_in_the_catimage_paper():
    """Section 5.1 of the paper states 1.5 TFLOPs for Infinity-2B, without a resolution."""
    guided = [counting.count_terms(size, True, "paper").denoiser for size in SCALES]
    assert guided == pytest.approx([4.50, 19.78, 80.17], abs=0.01)
    # Guidance runs the transformer twice. One pass at the smallest resolution costs at least 40%
    # more than in the paper.
    assert min(guided) / 2 > 1.5 * 1.4


def test_guidance_doubles_only_the_denoiser():
    guided, unguided = (counting.count_terms(256, guided, "full") for guided in (True, False))
    assert guided.denoiser == 2 * unguided.denoiser
    assert guided.text_encoder == unguided.text_encoder, "the empty prompt must not be encoded"
    assert guided.decoder == unguided.decoder
    assert (guided.denoiser_calls, guided.passes, unguided.passes) == (7, 2, 1)
    assert guided.text_encoder == pytest.approx(1.237, abs=0.001)
    assert guided.decoder == pytest.approx(0.616, abs=0.001)
    weights, activations = counting.memory(1024, True)
    assert 7e9 < weights < 7.5e9 and activations == 2 * 2 * 10521 * 2 * WIDTH * DEPTH

"""Attention of the transformer: a scale attends to the text, to coarser scales and to itself."""

import pytest
import torch

from catimage.pool.generators.next_scale.transformer import block_mask, tokens_of
from tests.pool.generators.next_scale.miniature import SHAPE, random_model

TOKENS = [side * side for side in SHAPE.scales]
"""Number of tokens of each scale."""


@pytest.fixture(scope="module")
def model_and_inputs():
    """A transformer, random inputs of all scales, and random hidden states of two texts."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(2, sum(TOKENS), SHAPE.bits, generator=generator)
    return (
        random_model().transformer,
        inputs,
        torch.randn(2, 6, SHAPE.text_width, generator=generator),
    )


@torch.no_grad()
def test_predictions_do_not_depend_on_finer_scales(model_and_inputs):
    model, inputs, text = model_and_inputs
    before, _ = model(inputs, model.project_text(text))
    for k, first in enumerate((0, 1, 5)):
        changed = inputs.clone()
        changed[:, first + TOKENS[k] - 1] += 1  # the last position of scale k
        after, _ = model(changed, model.project_text(text))
        assert torch.equal(after[:, :first], before[:, :first])
        assert not torch.isclose(after[:, first:], before[:, first:]).all(-1).any(), (
            "all positions of the same scale and of finer scales must attend to it"
        )


@torch.no_grad()
def test_predictions_with_a_cache_equal_those_of_a_single_pass(model_and_inputs):
    model, inputs, text = model_and_inputs
    expected, _ = model(inputs, model.project_text(text))
    projected_text, past, logits = model.project_text(text), None, []
    for scale_inputs in inputs.split(TOKENS, 1):
        scale_logits, past = model(scale_inputs, projected_text, past)
        logits.append(scale_logits)
    assert torch.allclose(torch.cat(logits, 1), expected, atol=1e-5)


@torch.no_grad()
def test_predictions_depend_on_more_than_the_mean_of_the_text_tokens(model_and_inputs):
    model, inputs, text = model_and_inputs
    # The first token is the sum of the first two tokens, and the second token is zero.
    merged = torch.cat([text[:, 1:2] + text[:, :1], torch.zeros_like(text[:, :1]), text[:, 2:]], 1)
    assert torch.allclose(text.mean(1), merged.mean(1), atol=1e-6), (
        "both texts must have the same mean"
    )
    assert not torch.allclose(
        model(inputs, model.project_text(text))[0],
        model(inputs, model.project_text(merged))[0],
        atol=1e-3,
    )


def test_the_mask_of_two_scales():
    assert block_mask((1, 2)).int().tolist() == [[1, 0, 0, 0, 0]] + [[1, 1, 1, 1, 1]] * 4


def test_maps_are_flattened_row_by_row():
    assert tokens_of(torch.arange(8).view(1, 2, 2, 2)).tolist() == [
        [[0, 4], [1, 5], [2, 6], [3, 7]]
    ]

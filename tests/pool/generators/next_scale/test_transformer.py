"""Attention masks: a scale attends to the text, coarser scales and itself."""

import pytest
import torch

from catimage.pool.generators.next_scale.transformer import block_mask, tokens_of
from tests.pool.generators.next_scale.miniature import SHAPE, random_model

SIDES = [side * side for side in SHAPE.scales]


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(2, sum(SIDES), SHAPE.bits, generator=generator)
    return (
        random_model().transformer,
        inputs,
        torch.randn(2, 6, SHAPE.text_width, generator=generator),
    )


@torch.no_grad()
def test_predictions_do_not_depend_on_later_scales(given):
    model, inputs, text = given
    before, _ = model(inputs, model.read(text))
    for k, first in enumerate((0, 1, 5)):
        changed = inputs.clone()
        changed[:, first + SIDES[k] - 1] += 1  # the last position of scale k
        after, _ = model(changed, model.read(text))
        assert torch.equal(after[:, :first], before[:, :first])
        assert not torch.isclose(after[:, first:], before[:, first:]).all(-1).any(), (
            "all positions of its scale and of later ones attend to it"
        )


@torch.no_grad()
def test_cached_prediction_equals_one_pass(given):
    model, inputs, text = given
    expected, _ = model(inputs, model.read(text))
    context, past, parts = model.read(text), None, []
    for part in inputs.split(SIDES, 1):
        logits, past = model(part, context, past)
        parts.append(logits)
    assert torch.allclose(torch.cat(parts, 1), expected, atol=1e-5)


@torch.no_grad()
def test_predictions_depend_on_single_text_tokens(given):
    model, inputs, text = given
    swapped = torch.cat([text[:, 1:2] + text[:, :1], torch.zeros_like(text[:, :1]), text[:, 2:]], 1)
    assert torch.allclose(text.mean(1), swapped.mean(1), atol=1e-6), "both texts have the same mean"
    assert not torch.allclose(
        model(inputs, model.read(text))[0], model(inputs, model.read(swapped))[0], atol=1e-3
    )


def test_mask_of_two_scales():
    assert block_mask((1, 2)).int().tolist() == [[1, 0, 0, 0, 0]] + [[1, 1, 1, 1, 1]] * 4


def test_tokens_go_row_by_row():
    assert tokens_of(torch.arange(8).view(1, 2, 2, 2)).tolist() == [
        [[0, 4], [1, 5], [2, 6], [3, 7]]
    ]

"""Counted TFLOPs compared with closed forms."""

import pytest
from transformers import CLIPTextModel

from catimage.errors import InputError
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate
from tests.pool.generators.next_scale.miniature import SHAPE, random_model, spec_of

CONTEXT, TEXT_LAYERS, BITS, WIDTH = 40, 3, SHAPE.bits, SHAPE.width


def _projections(steps):
    """Return the operations of the transformer's projections of the text and of all tokens."""
    tokens = sum(side * side for side in SHAPE.scales[:steps])
    text = 2 * SHAPE.text_width * WIDTH + SHAPE.layers * CONTEXT * 2 * SHAPE.text_width * 2 * WIDTH
    inner = (4 + 2 + 2 * SHAPE.expansion) * 2 * WIDTH * WIDTH
    return text + tokens * (2 * 2 * BITS * WIDTH + SHAPE.layers * inner)


def _products(steps):
    """Return the operations of attention of each scale to all scales so far and to the text."""
    seen, total = 0, 0
    for side in SHAPE.scales[:steps]:
        seen += side * side
        total += SHAPE.layers * 4 * side * side * (seen + CONTEXT) * WIDTH
    return total


def _convolution(side, inputs, outputs, kernel):
    """Return the operations of a convolution whose output has ``side`` x ``side`` positions."""
    return 2 * side * side * kernel * kernel * inputs * outputs


def _decoder():
    """Return the operations of the decoder."""
    coarse, middle, fine = SHAPE.decoder_widths
    blocks = (
        2 * _convolution(4, coarse, coarse, 3)
        + 4 * _convolution(8, middle, middle, 3)
        + 2 * _convolution(16, fine, fine, 3)
    )
    between = _convolution(4, coarse, 4 * middle, 1) + _convolution(8, middle, 4 * fine, 1)
    return _convolution(4, BITS, coarse, 3) + blocks + between + _convolution(16, fine, 12, 3)


def _text():
    """Return the operations of the text encoder."""
    width = SHAPE.text_width
    return TEXT_LAYERS * (CONTEXT * (8 + 16) * width * width + 4 * CONTEXT * CONTEXT * width)


def _candidates(*rows):
    """Return candidates, from pairs of a number of steps and settings."""
    return [
        Candidate(candidate=f"c{i}", generator="mini", steps=steps, **settings)
        for i, (steps, settings) in enumerate(rows)
    ]


def test_the_full_count_equals_the_closed_forms(folder):
    guided, plain, short = kind_of(spec_of(), folder).count_costs(
        _candidates((3, {}), (3, {"guidance": 1.0}), (2, {"guidance": 1.0})), "full"
    )
    assert plain.denoiser == pytest.approx((_projections(3) + _products(3)) / 1e12, rel=1e-9)
    assert short.denoiser == pytest.approx((_projections(2) + _products(2)) / 1e12, rel=1e-9)
    assert plain.decoder == pytest.approx(_decoder() / 1e12, rel=1e-9)
    assert plain.text_encoder == pytest.approx(_text() / 1e12, rel=1e-9)
    assert (plain.denoiser_calls, plain.passes, short.denoiser_calls) == (3, 1, 2)
    assert guided.denoiser == pytest.approx(
        2 * plain.denoiser
    ) and guided.text_encoder == pytest.approx(2 * plain.text_encoder)
    assert (guided.decoder, guided.passes) == (plain.decoder, 2)


def test_the_convention_paper_counts_only_projections(folder):
    (terms,) = kind_of(spec_of(), folder).count_costs(_candidates((3, {})), "paper")
    assert terms.denoiser == pytest.approx(2 * _projections(3) / 1e12, rel=1e-9)
    assert terms.text_encoder == terms.decoder == 0


def test_costs_are_counted_without_weights(folder, tmp_path):
    (tmp_path / "bits").mkdir()
    (tmp_path / "sd" / "text_encoder").mkdir(parents=True)
    (tmp_path / "sd" / "tokenizer").mkdir()
    for file in ("bits/config.json", "sd/text_encoder/config.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    rows = _candidates((3, {}))
    assert kind_of(spec_of(), tmp_path).count_costs(rows, "full") == kind_of(
        spec_of(), folder
    ).count_costs(rows, "full")


def test_a_candidate_with_more_steps_than_scales_is_refused(folder):
    with pytest.raises(
        InputError, match=r"'c0' has 4 steps, but the model has 3 scales\. Set 'steps' to 1 to 3"
    ):
        kind_of(spec_of(), folder).count_costs(_candidates((4, {})), "full")


def test_facts_contain_the_bytes_of_weights_and_memory(folder, tmp_path):
    weights = sum(p.numel() for p in random_model().parameters()) + sum(
        p.numel()
        for p in CLIPTextModel.from_pretrained(folder / "sd" / "text_encoder").parameters()
    )
    facts = kind_of(spec_of(), folder).facts()
    assert facts.weight_bytes == 4 * weights and facts.missing == ""
    assert facts.memory_bytes == 4 * weights + 4 * 2 * 8 * 16 * 16, (
        "the activations of the decoder's finest convolution must exceed the keys and values"
    )
    assert (
        kind_of(spec_of(), folder).identity()["weights"].startswith(facts.revision)
        and len(facts.revision) == 12
    )
    assert "config.json not found" in kind_of(spec_of(), tmp_path).facts().missing

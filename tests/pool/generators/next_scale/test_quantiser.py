"""Bits scale by scale against loops over numbers, and what the sums and gradients must be."""

import numpy as np
import torch

from catimage.pool.generators.next_scale.quantiser import codes, quantise, upscale

SCALES = (1, 2, 3, 4)


def _features(n=2, d=3, seed=0):
    return torch.randn(n, d, 4, 4, generator=torch.Generator().manual_seed(seed))


def _mean_down(grid, side):
    """Means over areas of a 4 x 4 grid; areas of neighbouring cells may overlap, as in adaptive
    pooling.
    """
    cuts = [(4 * i // side, -(-4 * (i + 1) // side)) for i in range(side)]
    return np.array([[grid[a:b, c:d].mean() for c, d in cuts] for a, b in cuts])


def _linear_up(grid):
    """Bilinear interpolation to 4 x 4 with pixel centres at halves, clamped at the border."""
    side = len(grid)
    out = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            y, x = (max(0.0, (k + 0.5) * side / 4 - 0.5) for k in (i, j))
            a, b = int(y), int(x)
            a2, b2 = min(a + 1, side - 1), min(b + 1, side - 1)
            top = grid[a, b] * (1 - (x - b)) + grid[a, b2] * (x - b)
            bottom = grid[a2, b] * (1 - (x - b)) + grid[a2, b2] * (x - b)
            out[i, j] = top * (1 - (y - a)) + bottom * (y - a)
    return out


def test_bits_are_the_signs_of_what_coarser_scales_left_over():
    features = _features()
    made = quantise(features, SCALES)
    for image in range(2):
        for channel in range(3):
            grid, total = features[image, channel].double().numpy(), np.zeros((4, 4))
            for k, side in enumerate(SCALES):
                signs = np.where(_mean_down(grid - total, side) > 0, 1.0, -1.0)
                assert np.array_equal(made.bits[k][image, channel].numpy(), signs > 0)
                total = total + _linear_up(signs / 3**0.5)
                np.testing.assert_allclose(made.sums[k][image, channel].numpy(), total, atol=1e-5)


def test_sums_are_made_of_the_bits_alone():
    made = quantise(_features(), SCALES)
    again = sum(upscale(codes(bits), 4) for bits in made.bits)
    assert torch.allclose(made.sums[-1], again, atol=1e-6)


def test_every_scale_brings_the_sum_nearer():
    features = 0.5 * _features(n=8)
    errors = [(features - s).square().mean().item() for s in quantise(features, SCALES).sums]
    assert errors[-1] < 0.5 * errors[0]


def test_the_last_sum_passes_the_gradient_on_as_it_is():
    features = _features().requires_grad_()
    wanted = torch.randn(features.shape)
    (quantise(features, SCALES).sums[-1] * wanted).sum().backward()
    assert torch.allclose(features.grad, wanted, atol=1e-6)


def test_flipped_bits_are_seen_and_later_scales_encode_what_they_spoilt():
    features = _features()
    made = quantise(features, SCALES, flips=torch.tensor([0.0, 1.0]))
    assert torch.allclose(made.sums[0][0], upscale(codes(made.bits[0]), 4)[0])
    assert torch.allclose(made.sums[0][1], upscale(codes(~made.bits[0]), 4)[1])
    left = torch.nn.functional.adaptive_avg_pool2d(features - made.sums[0], 2)
    assert torch.equal(made.bits[1], left > 0)
    assert torch.equal(made.bits[0], quantise(features, SCALES).bits[0])


def test_codes_lie_on_the_unit_sphere():
    bits = torch.rand(2, 7, 3, 3) > 0.5
    assert torch.allclose(codes(bits).norm(dim=1), torch.ones(2, 3, 3))
    assert torch.equal(codes(bits) > 0, bits)

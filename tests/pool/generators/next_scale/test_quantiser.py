"""Quantisation compared with loops over single numbers; sums and gradients."""

import numpy as np
import torch

from catimage.pool.generators.next_scale.quantiser import codes, quantise, upscale

SCALES = (1, 2, 3, 4)


def _features(n=2, d=3, seed=0):
    return torch.randn(n, d, 4, 4, generator=torch.Generator().manual_seed(seed))


def _average_pool(grid, side):
    """Return the means over areas of a 4 x 4 grid. As in adaptive pooling, areas may overlap."""
    cuts = [(4 * i // side, -(-4 * (i + 1) // side)) for i in range(side)]
    return np.array([[grid[a:b, c:d].mean() for c, d in cuts] for a, b in cuts])


def _bilinear_upsample(grid):
    """Interpolate bilinearly to 4 x 4, with pixel centres at half-integer coordinates,
    clamped at the border."""
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


def test_bits_are_the_signs_of_the_residuals():
    features = _features()
    quantised = quantise(features, SCALES)
    for image in range(2):
        for channel in range(3):
            grid, total = features[image, channel].double().numpy(), np.zeros((4, 4))
            for k, side in enumerate(SCALES):
                signs = np.where(_average_pool(grid - total, side) > 0, 1.0, -1.0)
                assert np.array_equal(quantised.bits[k][image, channel].numpy(), signs > 0)
                total = total + _bilinear_upsample(signs / 3**0.5)
                np.testing.assert_allclose(
                    quantised.sums[k][image, channel].numpy(), total, atol=1e-5
                )


def test_sums_depend_on_the_bits_only():
    quantised = quantise(_features(), SCALES)
    sums = sum(upscale(codes(bits), 4) for bits in quantised.bits)
    assert torch.allclose(quantised.sums[-1], sums, atol=1e-6)


def test_the_quantisation_error_after_the_last_scale_is_less_than_half():
    features = 0.5 * _features(n=8)
    errors = [(features - sums).square().mean().item() for sums in quantise(features, SCALES).sums]
    assert errors[-1] < 0.5 * errors[0]


def test_the_gradient_of_the_last_sum_reaches_the_features_unchanged():
    features = _features().requires_grad_()
    weights = torch.randn(features.shape)
    (quantise(features, SCALES).sums[-1] * weights).sum().backward()
    assert torch.allclose(features.grad, weights, atol=1e-6)


def test_later_scales_encode_the_error_of_flipped_bits():
    features = _features()
    quantised = quantise(features, SCALES, flips=torch.tensor([0.0, 1.0]))
    assert torch.allclose(quantised.sums[0][0], upscale(codes(quantised.bits[0]), 4)[0])
    assert torch.allclose(quantised.sums[0][1], upscale(codes(~quantised.bits[0]), 4)[1])
    residual = torch.nn.functional.adaptive_avg_pool2d(features - quantised.sums[0], 2)
    assert torch.equal(quantised.bits[1], residual > 0)
    assert torch.equal(quantised.bits[0], quantise(features, SCALES).bits[0])


def test_codes_have_unit_norm():
    bits = torch.rand(2, 7, 3, 3) > 0.5
    assert torch.allclose(codes(bits).norm(dim=1), torch.ones(2, 3, 3))
    assert torch.equal(codes(bits) > 0, bits)

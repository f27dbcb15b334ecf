import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from catimage.metrics.sets.distances import (
    ImageSet,
    frechet_distance,
    inception_score,
    kernel_distance,
)


def images(values, first=0):
    """Return a set of images of different prompts, numbered from ``first``."""
    return ImageSet(np.asarray(values, float), np.arange(first, first + len(values)))


def two_sets(n, m, width, seed=0):
    """Return two sets of n and m images with random features of different distributions."""
    rng = np.random.default_rng(seed)
    return images(rng.normal(0, 1, (n, width)) @ rng.normal(0, 1, (width, width))), images(
        rng.normal(0.3, 1, (m, width)), -m
    )


def with_moments(mean, covariance, n=50, seed=0):
    """Return images whose features have exactly this mean and covariance."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (n, len(mean)))
    noise -= noise.mean(0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise, rowvar=False))).T
    return images(white @ np.linalg.cholesky(covariance).T + mean)


def test_the_frechet_distance_of_gaussians_equals_the_closed_form():
    one = with_moments(np.array([1.0, 2.0]), np.diag([4.0, 9.0]))
    other = with_moments(np.array([0.0, 4.0]), np.diag([1.0, 16.0]), n=70, seed=1)
    assert frechet_distance(one, other) == pytest.approx((1 + 4) + (2 - 1) ** 2 + (3 - 4) ** 2)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(60, 40), (40, 60), (9, 12)])
def test_the_frechet_distance_equals_the_matrix_root_and_torchmetrics(n, m):
    from torchmetrics.image.fid import FrechetInceptionDistance

    one, other = two_sets(n, m, 12)
    s, w = np.cov(one.values, rowvar=False), np.cov(other.values, rowvar=False)
    shift = one.values.mean(0) - other.values.mean(0)
    if min(n, m) > 12:  # sqrtm fails for a singular product
        expected = shift @ shift + np.trace(s + w - 2 * sqrtm(s @ w).real)
        assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)
    network = torch.nn.Identity()
    network.num_features = 12
    reference = FrechetInceptionDistance(feature=network)
    reference.update(torch.from_numpy(other.values), real=True)
    reference.update(torch.from_numpy(one.values), real=False)
    assert frechet_distance(one, other) == pytest.approx(float(reference.compute()), rel=1e-6)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-12)


@pytest.mark.filterwarnings("ignore:Metric `Kernel:UserWarning")
def test_the_kernel_distance_equals_torchmetrics_if_all_prompts_differ():
    from torchmetrics.image.kid import KernelInceptionDistance

    one, other = two_sets(40, 40, 12)
    reference = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=1, subset_size=40)
    reference.update(torch.from_numpy(other.values), real=True)
    reference.update(torch.from_numpy(one.values), real=False)
    assert kernel_distance(one, other) == pytest.approx(float(reference.compute()[0]), rel=1e-10)


def test_the_kernel_distance_counts_only_pairs_of_different_prompts():
    generated = ImageSet(np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), np.array([0, 0, 1]))
    real = ImageSet(np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([0, 1]))

    def kernel(x, y):
        return (np.dot(x, y) / 2 + 1) ** 3

    a, b, c = generated.values
    p, q = real.values
    within = (kernel(a, c) + kernel(b, c)) / 2 + kernel(p, q)
    expected = within - 2 * (kernel(a, q) + kernel(b, q) + kernel(c, p)) / 3
    assert kernel_distance(generated, real) == pytest.approx(expected)


def test_the_kernel_distance_is_unbiased_if_the_real_images_have_the_same_prompts():
    """Both sets have the same distribution: the mean is 0, unlike that of the usual estimate."""
    rng = np.random.default_rng(0)
    unbiased, usual = [], []
    for _ in range(300):
        prompts = rng.normal(0, 1, (12, 4))
        generated, real = (
            ImageSet(prompts + rng.normal(0, 0.3, prompts.shape), np.arange(12)) for _ in range(2)
        )
        unbiased.append(kernel_distance(generated, real))
        usual.append(kernel_distance(generated, ImageSet(real.values, real.prompt - 12)))
    assert abs(np.mean(unbiased)) < 3 * np.std(unbiased) / 300**0.5
    assert np.mean(usual) < -10 * np.std(usual) / 300**0.5


def test_the_block_size_does_not_change_the_result(monkeypatch):
    from catimage.metrics.sets import distances

    one, other = two_sets(30, 20, 5)
    expected = kernel_distance(one, other)
    mean_kernel = distances._mean_kernel
    monkeypatch.setattr(distances, "_mean_kernel", lambda a, b: mean_kernel(a, b, block=7))
    assert kernel_distance(one, other) == pytest.approx(expected, rel=1e-12)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore:UserWarning", "ignore:std:UserWarning")
def test_the_inception_score_equals_torchmetrics():
    from torchmetrics.image.inception import InceptionScore

    logits = np.random.default_rng(0).normal(0, 3, (40, 7))
    reference = InceptionScore(feature=torch.nn.Identity(), splits=1)
    reference.update(torch.from_numpy(logits))
    assert inception_score(images(logits)) == pytest.approx(
        float(reference.compute()[0]), rel=1e-12
    )


def test_the_inception_score_equals_the_closed_form():
    one_hot = np.where(np.eye(4, dtype=bool), 100.0, 0.0)
    assert inception_score(images(np.tile(one_hot, (5, 1)))) == pytest.approx(4)
    assert inception_score(images(np.tile(one_hot[0], (5, 1)))) == pytest.approx(1)
    assert inception_score(images(np.zeros((5, 4)))) == pytest.approx(1)
    p = np.array([0.9, 0.1])
    expected = np.exp((p * np.log(p / 0.5)).sum())
    assert inception_score(images(np.log([p, p[::-1]]))) == pytest.approx(expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_noise_and_lost_diversity_worsen_the_values(seed):
    rng = np.random.default_rng(seed)
    real, good = (images(rng.normal(0, 1, (80, 6)), 80 * i) for i in range(2))
    noisy = images(good.values + rng.normal(0, 3, good.values.shape), 80)
    repeated = images(np.tile(good.values[:4], (20, 1)), 80)
    for statistic in (frechet_distance, kernel_distance):
        assert statistic(good, real) < min(statistic(noisy, real), statistic(repeated, real))
    sharp, flat = images(5 * good.values), images(0.2 * good.values)
    assert 1 <= inception_score(flat) < inception_score(sharp) <= 6
    assert inception_score(images(good.values + 7.0)) == pytest.approx(inception_score(good))


def test_a_distance_without_real_images_is_refused():
    with pytest.raises(ValueError, match="real images"):
        frechet_distance(two_sets(3, 3, 2)[0], None)


def test_without_removes_all_images_of_a_prompt():
    image_set = ImageSet(np.arange(8.0).reshape(4, 2), np.array([0, 0, 1, 2]))
    remaining = image_set.without(np.array([0, 2]))
    assert remaining.values.tolist() == [[4.0, 5.0]] and remaining.prompt.tolist() == [1]

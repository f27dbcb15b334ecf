"""Statistics of sets of features: the Fréchet distance, the kernel distance, and the Inception
Score.

In float64, and of all images at once. ``torchmetrics`` has the same three, and the tests compare
with it. Ours differ where routing needs it: they are told which images are of the same prompt, need
no random draws, and take a millisecond where images are fewer than the features are wide, so that
an interval can be had for every set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import svdvals
from scipy.special import log_softmax, logsumexp

from catimage.common.arrays import Floats, Ints


@dataclass(frozen=True)
class ImageSet:
    """What a network says of images, float64 (n, width), and of which prompt each is, int (n,): the
    same number for the same prompt.
    """

    values: Floats
    prompt: Ints

    def without(self, prompts: Ints) -> ImageSet:
        """The images of all other prompts."""
        kept = ~np.isin(self.prompt, prompts)
        return ImageSet(self.values[kept], self.prompt[kept])


def frechet(made: ImageSet, real: ImageSet | None) -> float:
    """|m - w|^2 + tr(S + W - 2 (S W)^(1/2)), with means m, w and covariances S, W of the features
    (Heusel et al. 2017, equation 6).

    With S = A'A and W = B'B, the last trace is the sum of the singular values of A B'. That needs
    no root of a matrix, which few images make singular. The estimate is biased upwards, the more
    the fewer the images: compare sets of one size alone.
    """
    real = _needed(real)
    shift = made.values.mean(0) - real.values.mean(0)
    a, b = _factor(made.values), _factor(real.values)
    distance = shift @ shift + np.square(a).sum() + np.square(b).sum() - 2 * svdvals(a @ b.T).sum()
    return max(float(distance), 0.0)


def _factor(values: Floats) -> Floats:
    """A with A'A the covariance of ``values`` (n, width), of no more than ``width`` rows."""
    centred = (values - values.mean(0)) / np.sqrt(len(values) - 1)
    return np.asarray(
        centred if len(values) <= values.shape[1] else np.linalg.qr(centred, mode="r")
    )


def kernel(made: ImageSet, real: ImageSet | None) -> float:
    """The squared maximum mean discrepancy with the kernel (x.y / width + 1)^3 (Binkowski et al.
    2018, section 4).

    Images of one prompt are not independent: a pair counts only if its images are of different
    prompts, made or real. Then the estimate is unbiased, also where the real images are those of
    the same prompts (Gretton et al. 2012, lemma 6, on pairs). Where all prompts differ, it is the
    usual estimate. It may fall below 0.
    """
    real = _needed(real)
    return _mean_kernel(made, made) + _mean_kernel(real, real) - 2 * _mean_kernel(made, real)


def _mean_kernel(one: ImageSet, other: ImageSet, block: int = 1024) -> float:
    """The mean of the kernel over pairs of different prompts, a block of rows at a time."""
    total, pairs = 0.0, 0
    for start in range(0, len(one.values), block):
        rows = slice(start, start + block)
        apart = one.prompt[rows, None] != other.prompt
        total += float(
            ((one.values[rows] @ other.values.T / other.values.shape[1] + 1) ** 3)[apart].sum()
        )
        pairs += int(apart.sum())
    return total / pairs


def inception_score(made: ImageSet, real: ImageSet | None = None) -> float:
    """exp of the mean divergence KL(p(y|x) || p(y)), with p the softmax of logits ``made.values``
    (Salimans et al. 2016, section 4).

    From 1, where all images look alike to the classifier or none is clear, to the number of
    classes. In one split.
    """
    each = log_softmax(made.values, axis=1)
    whole = logsumexp(each, axis=0) - np.log(len(each))
    return float(np.exp((np.exp(each) * (each - whole)).sum(1).mean()))


def _needed(real: ImageSet | None) -> ImageSet:
    if real is None:
        raise ValueError("a distance needs a set of real images")
    return real

"""Statistics of sets of features: Fréchet distance, kernel distance, Inception Score.

The statistics are computed in float64 on all images at once. ``torchmetrics`` implements the same
statistics, and the tests compare the results with it. This module is used instead because it
excludes pairs of images of the same prompt, draws no random subsets, and is fast enough for
jackknife intervals: for 52 images, the Fréchet distance takes 0.5 ms at 128 features and 1.3 ms at
2048, where ``torchmetrics`` takes 23 ms and 12 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import svdvals
from scipy.special import log_softmax, logsumexp

from catimage.common.arrays import Floats, Ints


@dataclass(frozen=True)
class ImageSet:
    """Outputs of a network for a set of images.

    Attributes:
        values: features or logits, (n, width).
        prompt: an integer per image, (n,), which is equal for the images of one prompt.
    """

    values: Floats
    prompt: Ints

    def without(self, prompts: Ints) -> ImageSet:
        """Return the images of all prompts except ``prompts``."""
        kept = ~np.isin(self.prompt, prompts)
        return ImageSet(self.values[kept], self.prompt[kept])


def frechet_distance(images: ImageSet, real: ImageSet | None) -> float:
    """Return the Fréchet distance of two sets of features (Heusel et al. 2017, equation 6).

    For means m, w and covariances S, W, it is |m - w|^2 + tr(S + W - 2 (S W)^(1/2)). With S = A'A
    and W = B'B (A' is the transpose of A), tr (S W)^(1/2) is the sum of the singular values of A
    B'. This avoids the matrix root, which is inaccurate if S W is singular, as it is for few
    images. The estimate is biased upwards, more for fewer images: only sets of the same size are
    comparable.
    """
    real = _require_real_images(real)
    shift = images.values.mean(0) - real.values.mean(0)
    a, b = _covariance_factor(images.values), _covariance_factor(real.values)
    distance = shift @ shift + np.square(a).sum() + np.square(b).sum() - 2 * svdvals(a @ b.T).sum()
    return max(float(distance), 0.0)


def _covariance_factor(values: Floats) -> Floats:
    """Return a matrix A of at most ``width`` rows such that A'A is the covariance of ``values``.

    Args:
        values: features, (n, width).
    """
    centred = (values - values.mean(0)) / np.sqrt(len(values) - 1)
    return np.asarray(
        centred if len(values) <= values.shape[1] else np.linalg.qr(centred, mode="r")
    )


def kernel_distance(images: ImageSet, real: ImageSet | None) -> float:
    """Return the squared maximum mean discrepancy with the kernel (x.y / width + 1)^3.

    This is the kernel distance of Binkowski et al. 2018, section 4. Images of one prompt are not
    independent, so only pairs of images of different prompts are counted. The estimate is then
    unbiased even if ``images`` and ``real`` have the same prompts. If all prompts differ, it is the
    usual unbiased estimate (Gretton et al. 2012, lemma 6). It can be negative.
    """
    real = _require_real_images(real)
    return _mean_kernel(images, images) + _mean_kernel(real, real) - 2 * _mean_kernel(images, real)


def _mean_kernel(one: ImageSet, other: ImageSet, block: int = 1024) -> float:
    """Return the mean kernel over pairs of different prompts, computed in blocks of rows."""
    total, pairs = 0.0, 0
    for start in range(0, len(one.values), block):
        rows = slice(start, start + block)
        differs = one.prompt[rows, None] != other.prompt
        products = one.values[rows] @ other.values.T / other.values.shape[1]
        total += float(((products + 1) ** 3)[differs].sum())
        pairs += int(differs.sum())
    return total / pairs


def inception_score(images: ImageSet, real: ImageSet | None = None) -> float:
    """Return the Inception Score (Salimans et al. 2016, section 4) of logits, in one split.

    The score is exp(mean KL(p(y|x) || p(y))), where p(y|x) is the softmax of the logits of image x.
    It ranges from 1, if all images have the same class probabilities, to the number of classes.
    ``real`` is ignored.
    """
    log_p = log_softmax(images.values, axis=1)
    log_marginal = logsumexp(log_p, axis=0) - np.log(len(log_p))
    return float(np.exp((np.exp(log_p) * (log_p - log_marginal)).sum(1).mean()))


def _require_real_images(real: ImageSet | None) -> ImageSet:
    if real is None:
        raise ValueError("a distance requires a set of real images")
    return real

"""Features that need no text encoder: TF-IDF and statistics such as length and punctuation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted

from catimage.common.arrays import Floats


class TextStatistics(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """TF-IDF and standardised statistics of a prompt, sparse (n_prompts, n_words + 5).

    They are available for the spread of every estimator, also of one that needs no text encoder.

    Args:
        max_features: the number of the most frequent words that have a column.
        statistics_weight: the factor of the statistics, relative to rows of TF-IDF of length 1.
    """

    def __init__(self, max_features: int = 5000, statistics_weight: float = 0.2) -> None:
        self.max_features = max_features
        self.statistics_weight = statistics_weight

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Learn the words, and the mean and standard deviation of each statistic."""
        self.vectorizer_ = TfidfVectorizer(
            sublinear_tf=True, max_features=self.max_features, token_pattern=r"(?u)\w+|\S"
        ).fit(prompts)
        statistics = _statistics(prompts)
        self.mean_, self.scale_ = statistics.mean(axis=0), np.maximum(statistics.std(axis=0), 1e-9)
        return self

    def transform(self, prompts: Sequence[str]) -> csr_matrix:
        """Return the features; statistics are clipped to three standard deviations."""
        check_is_fitted(self)
        standardised = np.clip((_statistics(prompts) - self.mean_) / self.scale_, -3, 3)
        words = self.vectorizer_.transform(prompts)
        features: csr_matrix = hstack([words, csr_matrix(standardised * self.statistics_weight)])
        return features.tocsr()


def _statistics(prompts: Sequence[str]) -> Floats:
    """Return five statistics of each prompt, (n_prompts, 5): the logarithms of the number of words
    and of characters per word, and commas, digits and capitalised words per word.
    """
    rows = []
    for prompt in map(str, prompts):
        words = prompt.split() or [""]
        capitalised = sum(word[:1].isupper() for word in words)
        counts = [len(re.findall(pattern, prompt)) for pattern in (",", r"\d")]
        lengths = [np.log(len(words)), np.log(max(len(prompt), 1) / len(words))]
        rows.append([*lengths, *(count / len(words) for count in (*counts, capitalised))])
    return np.array(rows, float)

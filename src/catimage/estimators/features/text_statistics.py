"""Features of prompts without a text encoder: TF-IDF, and statistics such as the length."""

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
    """Transformer to TF-IDF features and five standardised statistics, sparse
    (n_prompts, n_words + 5).

    The predictive spread of every estimator (:mod:`catimage.estimators.spread`) uses these
    features, because they do not require a text encoder.

    Args:
        max_features: the number of words with a TF-IDF column; the most frequent words are used.
        statistics_weight: the factor by which standardised statistics are multiplied; the TF-IDF
            features of a prompt have length 1.
    """

    def __init__(self, max_features: int = 5000, statistics_weight: float = 0.2) -> None:
        self.max_features = max_features
        self.statistics_weight = statistics_weight

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Compute the vocabulary, and the mean and standard deviation of each statistic."""
        self.vectorizer_ = TfidfVectorizer(
            sublinear_tf=True, max_features=self.max_features, token_pattern=r"(?u)\w+|\S"
        ).fit(prompts)
        statistics = _statistics(prompts)
        self.mean_, self.scale_ = statistics.mean(axis=0), np.maximum(statistics.std(axis=0), 1e-9)
        return self

    def transform(self, prompts: Sequence[str]) -> csr_matrix:
        """Return the features; standardised statistics are clipped to [-3, 3]."""
        check_is_fitted(self)
        standardised = np.clip((_statistics(prompts) - self.mean_) / self.scale_, -3, 3)
        tfidf = self.vectorizer_.transform(prompts)
        features: csr_matrix = hstack([tfidf, csr_matrix(standardised * self.statistics_weight)])
        return features.tocsr()


def _statistics(prompts: Sequence[str]) -> Floats:
    """Return five statistics of each prompt, (n_prompts, 5): the logarithm of the number of words,
    the logarithm of the number of characters per word, and the numbers of commas, digits and
    capitalised words per word.
    """
    rows = []
    for prompt in map(str, prompts):
        tokens = prompt.split() or [""]
        capitalised = sum(word[:1].isupper() for word in tokens)
        counts = [len(re.findall(pattern, prompt)) for pattern in (",", r"\d")]
        lengths = [np.log(len(tokens)), np.log(max(len(prompt), 1) / len(tokens))]
        rows.append([*lengths, *(count / len(tokens) for count in (*counts, capitalised))])
    return np.array(rows, float)

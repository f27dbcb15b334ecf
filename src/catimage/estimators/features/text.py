"""Transformers from prompts to outputs of a frozen text encoder (CATImage paper, section 5.1).

A transformer contains only the name of its text encoder, so that ``clone`` is fast and the weights
of the text encoder are not saved with an estimator.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.extmath import randomized_svd

from catimage.common.arrays import Float32
from catimage.data.prompts.identity import prompt_id
from catimage.estimators.ivf import normalize_rows
from catimage.estimators.ragged_arrays import RaggedArray
from catimage.params import EncoderParams


class TextFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of the transformers that use a text encoder.

    Args:
        model, weights, revision: the text encoder, as in section ``encoder`` of ``params.yaml``.
        stored: a folder of embeddings, as written by stage sample. If it contains all prompts of a
            call, their embeddings are read from it; otherwise, the prompts are encoded, each at
            most once per process (:mod:`catimage.encoders.cache`). If None, the prompts are
            encoded.
    """

    def __init__(
        self, model: str = "tiny", weights: str = "", revision: str = "", stored: str | None = None
    ) -> None:
        self.model = model
        self.weights = weights
        self.revision = revision
        self.stored = stored

    @property
    def encoder(self) -> EncoderParams:
        """The parameters of the text encoder."""
        return _encoder_params(self.model, self.weights, self.revision)

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Return the transformer unchanged, because the encoder is frozen."""
        self.fitted_ = True
        return self

    def _embed(self, prompts: Sequence[str]) -> Any:
        """Return the :class:`~catimage.encoders.embeddings.Embeddings` of the prompts."""
        from catimage.encoders.cache import cached_encoder, stored_embeddings

        texts = [str(prompt) for prompt in prompts]
        if self.stored is not None:
            stored, ids = stored_embeddings(Path(self.stored)), [prompt_id(text) for text in texts]
            if stored.has(ids):
                return stored.take(ids)
        return cached_encoder(self.encoder).encode(texts)


@lru_cache(maxsize=64)
def _encoder_params(model: str, weights: str, revision: str) -> EncoderParams:
    """Return the parameters of a text encoder; validation takes longer than a cached embedding."""
    return EncoderParams(model=model, weights=weights, revision=revision)


class PooledEmbedding(TextFeatures):
    """Transformer to embeddings of whole prompts: float32 (n_prompts, width), rows of length 1."""

    def transform(self, prompts: Sequence[str]) -> Float32:
        """Return the embeddings of the prompts."""
        pooled: Float32 = self._embed(prompts).pooled
        return pooled


class TokenEmbedding(TextFeatures):
    """Transformer to the embeddings of all tokens of the prompts, in a
    :class:`~catimage.estimators.ragged_arrays.RaggedArray`.
    """

    def transform(self, prompts: Sequence[str]) -> RaggedArray:
        """Return the embeddings of the tokens of the prompts."""
        embedded = self._embed(prompts)
        return RaggedArray(embedded.tokens, embedded.offsets)


class LayerMeans(TextFeatures):
    """Transformer to the hidden states of all layers of the text encoder, averaged over the tokens
    and projected onto their leading singular directions: float32 (n_prompts, width), rows of length
    1.

    The averages of all layers are concatenated, standardised per column, and scaled to length 1
    before the projection. Early layers represent words and late layers the meaning of the prompt;
    the difficulty of a prompt for a generator depends on both.

    Args:
        model, weights, revision, stored: see :class:`TextFeatures`.
        width: the number of singular directions; at most the number of columns and the number of
            training prompts.
        random_state: the seed of the randomised singular value decomposition.
    """

    def __init__(
        self,
        model: str = "tiny",
        weights: str = "",
        revision: str = "",
        stored: str | None = None,
        width: int = 256,
        random_state: int = 0,
    ) -> None:
        super().__init__(model, weights, revision, stored)
        self.width = width
        self.random_state = random_state

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Compute the mean and scale of each column, and the singular directions."""
        means = self._layer_means(prompts)
        self.mean_ = means.mean(axis=0)
        self.scale_ = np.maximum(means.std(axis=0), 1e-6)
        standardised = self._standardise(means)
        rank = min(self.width, *standardised.shape)
        _, _, directions = randomized_svd(
            standardised, rank, n_iter=2, random_state=self.random_state
        )
        self.directions_ = np.ascontiguousarray(directions.T, np.float32)
        return self

    def transform(self, prompts: Sequence[str]) -> Float32:
        """Return the projected layer features of the prompts."""
        return normalize_rows(self._standardise(self._layer_means(prompts)) @ self.directions_)

    def multiply_adds(self, X: Any) -> int:
        """Return the number of multiply-adds of the projection of prompts X (n,)."""
        return len(X) * int(self.directions_.size)

    def _layer_means(self, prompts: Sequence[str]) -> Float32:
        """Return the concatenated layer averages of the prompts, (n_prompts, n_columns)."""
        layers = self._embed(prompts).layers
        return np.asarray(layers.reshape(len(layers), -1), np.float32)

    def _standardise(self, means: Float32) -> Float32:
        return normalize_rows((means - self.mean_) / self.scale_)


class RawPrompts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transformer that returns the prompts unchanged, for regressors that read prompts."""

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Return the transformer; there is nothing to fit."""
        self.fitted_ = True
        return self

    def transform(self, prompts: Sequence[str]) -> NDArray[np.object_]:
        """Return the prompts, (n_prompts,)."""
        return np.asarray(prompts, object)

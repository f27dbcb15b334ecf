"""Transformers of prompts by a frozen text encoder (CATImage 5.1).

A transformer refers to its text encoder by name, so that ``clone`` is cheap and no weights are
saved with an estimator.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """The base class of the transformers that use a text encoder.

    Args:
        model, weights, revision: the text encoder, as in ``params.yaml``.
        stored: a folder of embeddings, as written by the sample stage. If it has all prompts of a
            request, they are looked up; otherwise they are encoded, each at most once per process
            (:mod:`catimage.encoders.cache`).
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
        return EncoderParams(model=self.model, weights=self.weights, revision=self.revision)

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Do nothing: the encoder is frozen."""
        self.fitted_ = True
        return self

    def _embed(self, prompts: Sequence[str]) -> Any:
        from catimage.encoders.cache import cached_encoder, stored_embeddings

        texts = [str(prompt) for prompt in prompts]
        if self.stored is not None:
            stored, ids = stored_embeddings(Path(self.stored)), [prompt_id(text) for text in texts]
            if stored.has(ids):
                return stored.take(ids)
        return cached_encoder(self.encoder).encode(texts)


class PooledEmbedding(TextFeatures):
    """The embedding of the whole prompt: float32 (n_prompts, width), rows of length 1."""

    def transform(self, prompts: Sequence[str]) -> Float32:
        """Return the embeddings of the prompts."""
        pooled: Float32 = self._embed(prompts).pooled
        return pooled


class TokenEmbedding(TextFeatures):
    """The embedding of every token of a prompt, as
    :class:`~catimage.estimators.ragged_arrays.RaggedArray`.
    """

    def transform(self, prompts: Sequence[str]) -> RaggedArray:
        """Return the embeddings of the tokens of the prompts."""
        embedded = self._embed(prompts)
        return RaggedArray(embedded.tokens, embedded.offsets)


class LayerMeans(TextFeatures):
    """The leading singular directions of the encoder's layers: float32 (n_prompts, width), rows of
    length 1.

    The means over the tokens of all layers are concatenated, standardised per column, and scaled to
    length 1 before the projection. Early layers represent words, late ones the meaning of the
    prompt; the difficulty of a prompt for a generator depends on both.

    Args:
        model, weights, revision, stored: see :class:`TextFeatures`.
        width: the number of directions; reduced to the number of columns or training prompts.
        random_state: seed of the randomised singular value decomposition.
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
        """Compute the means, the scales and the singular directions."""
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
        """Return the projections of the prompts."""
        return normalize_rows(self._standardise(self._layer_means(prompts)) @ self.directions_)

    def multiply_adds(self, X: Any) -> int:
        """Return the number of multiply-adds for prompts X (n,), without the text encoder's."""
        return len(X) * int(self.directions_.size)

    def _layer_means(self, prompts: Sequence[str]) -> Float32:
        layers = self._embed(prompts).layers
        return np.asarray(layers.reshape(len(layers), -1), np.float32)

    def _standardise(self, means: Float32) -> Float32:
        return normalize_rows((means - self.mean_) / self.scale_)


class RawPrompts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The prompts unchanged, for regressors that read text (a stack)."""

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Do nothing."""
        self.fitted_ = True
        return self

    def transform(self, prompts: Sequence[str]) -> NDArray[np.object_]:
        """Return the prompts, (n_prompts,)."""
        return np.asarray(prompts, object)

"""The feature steps of an estimator: from a 1-D array of prompts to what a regressor reads.

The encoder is named by parameters, not held, so that ``clone`` is cheap and nothing heavy is saved
with an estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer

from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError
from catimage.estimators.features.feature_union import JoinedFeatures, KernelMap
from catimage.estimators.ivf import unit
from catimage.estimators.ragged_arrays import Ragged
from catimage.params import Encoder, FeatureParams

Part = TypeVar("Part")


class TextFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Common parts: ``model``, ``weights`` and ``revision`` name the encoder as in ``params.yaml``.

    ``stored`` is a folder of embeddings made by the sample stage; prompts that it holds are looked
    up, others are encoded, each at most once a process (:mod:`catimage.encoders.cache`).
    """

    def __init__(
        self, model: str = "tiny", weights: str = "", revision: str = "", stored: str | None = None
    ) -> None:
        self.model = model
        self.weights = weights
        self.revision = revision
        self.stored = stored

    @property
    def encoder(self) -> Encoder:
        """The encoder that the parameters name."""
        return Encoder(model=self.model, weights=self.weights, revision=self.revision)

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Nothing to learn: the encoder is frozen (CATImage 5.1)."""
        self.fitted_ = True
        return self

    def _embed(self, prompts: Sequence[str]) -> Any:
        from catimage.encoders.cache import cached_encoder, stored_embeddings

        texts = [str(p) for p in prompts]
        if self.stored is not None:
            known = stored_embeddings(Path(self.stored))
            ids = [prompt_id(t) for t in texts]
            if known.has(ids):
                return known.take(ids)
        return cached_encoder(self.encoder).encode(texts)


class PooledEmbedding(TextFeatures):
    """The encoder's embedding of the whole prompt: float32 (n_prompts, width), of unit length."""

    def transform(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embeds a sequence of prompts."""
        pooled: NDArray[np.float32] = self._embed(prompts).pooled
        return pooled


class TokenEmbedding(TextFeatures):
    """The encoder's embedding of every token of a prompt, as
    :class:`~catimage.estimators.ragged_arrays.Ragged`.
    """

    def transform(self, prompts: Sequence[str]) -> Ragged:
        """Embeds a sequence of prompts."""
        embedded = self._embed(prompts)
        return Ragged(embedded.tokens, embedded.offsets)


class LayerMeans(TextFeatures):
    """What the encoder's layers say of a prompt, each number standardised, along the ``width``
    directions in which prompts differ most.

    Rows are of unit length. Early layers know words, late ones meaning: what a generator finds hard
    shows in both.
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
        """Learns the means, the scales and the directions."""
        from sklearn.utils.extmath import randomized_svd

        means = self._means(prompts)
        self.mean_ = means.mean(axis=0)
        self.scale_ = np.maximum(means.std(axis=0), 1e-6)
        whole = self._standardised(means)
        _, _, directions = randomized_svd(
            whole, min(self.width, *whole.shape), n_iter=2, random_state=self.random_state
        )
        self.directions_ = np.ascontiguousarray(directions.T, np.float32)
        return self

    def transform(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Features (n_prompts, width or fewer)."""
        return unit(self._standardised(self._means(prompts)) @ self.directions_)

    def multiply_adds(self, X: Any) -> int:
        """Of the features of prompts X (n,), without the text encoder's."""
        return len(X) * int(self.directions_.size)

    def _means(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        layers = self._embed(prompts).layers
        return np.asarray(layers.reshape(len(layers), -1), np.float32)

    def _standardised(self, means: NDArray[np.float32]) -> NDArray[np.float32]:
        return unit((means - self.mean_) / self.scale_)


class RawPrompts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The prompts as they are, for regressors that read them themselves (a stack)."""

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Nothing to learn."""
        self.fitted_ = True
        return self

    def transform(self, prompts: Sequence[str]) -> NDArray[np.object_]:
        """The same prompts: (n_prompts,)."""
        return np.asarray(prompts, object)


def feature_step(
    features: Sequence[FeatureParams], encoder: Encoder, embeddings: Callable[[str], Path] | None
) -> Any:
    """The feature step that the parameters describe, unfitted; ``encoder`` is for those that name
    none, ``stored`` as in ``EstimatorContext``.

    Several are joined, each row of each of unit length times its ``weight``.

    Raises:
        InputError: tokens or prompts, which are no columns, are to be joined with others.
    """
    steps = [_step(one, one.encoder or encoder, embeddings) for one in features]
    if len(steps) == 1:
        return steps[0]
    for one in features:
        if one.kind in ("tokens", "prompts"):
            raise InputError(
                f"train.estimators: features of kind {one.kind!r} cannot be joined with others:"
                " name them alone."
            )
    return JoinedFeatures(steps, [one.weight for one in features])


def _step(one: FeatureParams, encoder: Encoder, embeddings: Callable[[str], Path] | None) -> Any:
    if one.kind == "prompts":
        return RawPrompts()
    if one.kind == "tfidf":
        return TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32
        )
    if one.kind == "characters":
        return TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, dtype=np.float32
        )
    place: dict[str, Any] = {**encoder.model_dump(), "stored": _stored(embeddings, encoder)}
    if one.kind == "kernel":
        return KernelMap([PooledEmbedding(**place), LayerMeans(**place)])
    return {"tokens": TokenEmbedding, "layers": LayerMeans, "embedding": PooledEmbedding}[one.kind](
        **place
    )


def parts_of(estimator: Any, kind: type[Part]) -> Iterator[Part]:
    """Every object of a class within an estimator, fitted or not: pipelines, joined features,
    stacks and what else holds others.
    """
    if isinstance(estimator, kind):
        yield estimator
    if isinstance(estimator, BaseEstimator):
        estimator = list(vars(estimator).values())
    if isinstance(estimator, Mapping):
        estimator = list(estimator.values())
    if isinstance(estimator, list | tuple):
        for part in estimator:
            yield from parts_of(part, kind)


def encoders_of(estimator: Any) -> list[Encoder]:
    """The text encoders that an estimator reads prompts with, each once."""
    return list(dict.fromkeys(text.encoder for text in parts_of(estimator, TextFeatures)))


def look_up(estimator: Any, folder_of: Callable[[str], Path] | None) -> None:
    """Points an estimator at the embeddings that were stored, by the name of the encoder, where
    there are some; None: at none.
    """
    for text in parts_of(estimator, TextFeatures):
        text.stored = _stored(folder_of, text.encoder)


def _stored(embeddings: Callable[[str], Path] | None, encoder: Encoder) -> str | None:
    folder = embeddings(encoder.name) if embeddings else None
    return str(folder) if folder is not None and folder.exists() else None


def rename_encoder(estimator: Any, old: str, new: str) -> None:
    """Gives the text encoder whose ``model`` is ``old`` another name."""
    for text in parts_of(estimator, TextFeatures):
        text.model = new if text.model == old else text.model

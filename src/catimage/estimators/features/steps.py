"""Construction of the feature step of an estimator, and access to the text encoders that an
estimator contains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

from catimage.errors import InputError
from catimage.estimators.features.feature_union import FastFeatureUnion, GaussianKernelFeatures
from catimage.estimators.features.text import (
    LayerMeans,
    PooledEmbedding,
    RawPrompts,
    TextFeatures,
    TokenEmbedding,
)
from catimage.params import EncoderParams, FeatureParams

T = TypeVar("T")
_CONTAINERS = (BaseEstimator, Mapping, list, tuple)
EmbeddingsFolder = Callable[[str], Path]
"""A function from the name of a text encoder to the folder of its stored embeddings, which may not
exist.
"""


def feature_step(
    features: Sequence[FeatureParams],
    encoder: EncoderParams,
    embeddings_folder: EmbeddingsFolder | None = None,
) -> Any:
    """Return an unfitted transformer from prompts to features.

    The columns of several features are concatenated, after multiplication by the ``weight`` of each
    feature.

    Args:
        features: the parameters of at least one feature.
        encoder: the text encoder of features that do not name one.
        embeddings_folder: a function that returns the folder of stored embeddings; if None, every
            prompt is encoded.

    Raises:
        InputError: ``tokens`` or ``prompts``, which are not matrices, are combined with other
            features.
    """
    for feature in features:
        if feature.kind in ("tokens", "prompts") and len(features) > 1:
            raise InputError(
                f"train.estimators: features of kind {feature.kind!r} cannot be combined with"
                " other features. Remove the other features."
            )
    steps = [_transformer(f, f.encoder or encoder, embeddings_folder) for f in features]
    if len(steps) == 1:
        return steps[0]
    names = [f"{feature.kind}_{number}" for number, feature in enumerate(features, 1)]
    weights = {name: feature.weight for name, feature in zip(names, features, strict=True)}
    return FastFeatureUnion(list(zip(names, steps, strict=True)), transformer_weights=weights)


def _transformer(
    feature: FeatureParams, encoder: EncoderParams, embeddings_folder: EmbeddingsFolder | None
) -> Any:
    """Return the unfitted transformer of one feature."""
    if feature.kind == "prompts":
        return RawPrompts()
    if feature.kind == "tfidf":
        return TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32
        )
    if feature.kind == "characters":
        return TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, dtype=np.float32
        )
    settings = {**encoder.model_dump(), "stored": _existing_folder(embeddings_folder, encoder)}
    if feature.kind == "kernel":
        return kernel_features(PooledEmbedding(**settings), LayerMeans(**settings))
    classes = {"tokens": TokenEmbedding, "layers": LayerMeans, "embedding": PooledEmbedding}
    return classes[feature.kind](**settings)


def kernel_features(embedding: Any, layers: Any) -> Pipeline:
    """Return a transformer from prompts to features of a Gaussian kernel.

    The squared distance in the kernel is the squared distance between the embeddings plus half the
    squared distance between the layer features. The squared length of the kernel features is 2,
    which is the sum of the squared lengths of embedding and layer features.

    Args:
        embedding: a transformer from prompts to embeddings of length 1.
        layers: a transformer from prompts to layer features of length 1.
    """
    both = FastFeatureUnion(
        [("embedding", embedding), ("layers", layers)], transformer_weights={"layers": 0.5**0.5}
    )
    return Pipeline([("features", both), ("kernel", GaussianKernelFeatures(variance=2.0))])


def _existing_folder(
    embeddings_folder: EmbeddingsFolder | None, encoder: EncoderParams
) -> str | None:
    """Return the folder of the encoder's stored embeddings, or None if it does not exist."""
    folder = embeddings_folder(encoder.name) if embeddings_folder else None
    return str(folder) if folder is not None and folder.exists() else None


def nested_instances(estimator: Any, cls: type[T]) -> Iterator[T]:
    """Yield every instance of ``cls`` within an estimator, fitted or not: in pipelines, feature
    unions, stacks, and combinations of these.
    """
    if isinstance(estimator, cls):
        yield estimator
    if isinstance(estimator, BaseEstimator):
        estimator = list(vars(estimator).values())
    if isinstance(estimator, Mapping):
        estimator = list(estimator.values())
    if isinstance(estimator, list | tuple):
        searched = {t for t in set(map(type, estimator)) if issubclass(t, (cls, *_CONTAINERS))}
        if searched:  # a vocabulary has very many parts, of other types
            for part in estimator:
                if type(part) in searched:
                    yield from nested_instances(part, cls)


def text_encoders(estimator: Any) -> list[EncoderParams]:
    """Return the parameters of the text encoders that an estimator uses, without duplicates."""
    return list(dict.fromkeys(t.encoder for t in nested_instances(estimator, TextFeatures)))


def set_embeddings_folder(estimator: Any, embeddings_folder: EmbeddingsFolder | None) -> None:
    """Make all text features of an estimator read stored embeddings from the folders that exist.

    If ``embeddings_folder`` is None, or a folder does not exist, prompts are encoded.
    """
    for features in nested_instances(estimator, TextFeatures):
        features.stored = _existing_folder(embeddings_folder, features.encoder)


def rename_encoder(estimator: Any, old: str, new: str) -> None:
    """Replace the name ``old`` of a text encoder (``encoder.model``) by ``new`` in an estimator."""
    for features in nested_instances(estimator, TextFeatures):
        features.model = new if features.model == old else features.model

"""The feature step of an estimator, and the text encoders within an estimator."""

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
EmbeddingsFolder = Callable[[str], Path]
"""Returns the folder of stored embeddings, which need not exist, by the name of a text encoder."""


def feature_step(
    features: Sequence[FeatureParams],
    encoder: EncoderParams,
    embeddings_folder: EmbeddingsFolder | None = None,
) -> Any:
    """Return an unfitted transformer of prompts.

    The columns of several features are concatenated, each multiplied by its ``weight``.

    Args:
        features: at least one.
        encoder: the text encoder of features that do not name one.
        embeddings_folder: of stored embeddings; None: every prompt is encoded.

    Raises:
        InputError: tokens or prompts, which have no columns, are combined with other features.
    """
    for feature in features:
        if feature.kind in ("tokens", "prompts") and len(features) > 1:
            raise InputError(
                f"train.estimators: features of kind {feature.kind!r} cannot be combined with"
                " others. List them alone."
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
    source = {**encoder.model_dump(), "stored": _existing(embeddings_folder, encoder)}
    if feature.kind == "kernel":
        return kernel_features(PooledEmbedding(**source), LayerMeans(**source))
    classes = {"tokens": TokenEmbedding, "layers": LayerMeans, "embedding": PooledEmbedding}
    return classes[feature.kind](**source)


def kernel_features(embedding: Any, layers: Any) -> Pipeline:
    """Return the features of a Gaussian kernel on the embedding and the layers of a prompt.

    The squared distance in the kernel is that of the embeddings plus half that of the layers. The
    features have the squared length 2, the sum of the squared lengths of the two inputs.

    Args:
        embedding, layers: transformers of prompts to rows of length 1.
    """
    both = FastFeatureUnion(
        [("embedding", embedding), ("layers", layers)], transformer_weights={"layers": 0.5**0.5}
    )
    return Pipeline([("features", both), ("kernel", GaussianKernelFeatures(variance=2.0))])


def _existing(embeddings_folder: EmbeddingsFolder | None, encoder: EncoderParams) -> str | None:
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
        for part in estimator:
            yield from nested_instances(part, cls)


def text_encoders(estimator: Any) -> list[EncoderParams]:
    """Return the text encoders that an estimator uses, without duplicates."""
    return list(dict.fromkeys(t.encoder for t in nested_instances(estimator, TextFeatures)))


def set_embeddings_folder(estimator: Any, embeddings_folder: EmbeddingsFolder | None) -> None:
    """Make an estimator look up stored embeddings in the existing folders; None: encode instead."""
    for features in nested_instances(estimator, TextFeatures):
        features.stored = _existing(embeddings_folder, features.encoder)


def rename_encoder(estimator: Any, old: str, new: str) -> None:
    """Replace the ``model`` of the text encoder that is named ``old``."""
    for features in nested_instances(estimator, TextFeatures):
        features.model = new if features.model == old else features.model

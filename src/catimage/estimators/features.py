"""The feature steps of an estimator: from a 1-D array of prompts to what a regressor reads.

The encoder is named by parameters, not held, so that ``clone`` is cheap and nothing heavy is saved with an estimator.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from catimage.estimators.ragged import Ragged
from catimage.params import Encoder
from catimage.tables import prompt_id

if TYPE_CHECKING:
    from catimage.encoders.embeddings import Embeddings


@lru_cache(maxsize=2)
def _encoder(spec: Encoder) -> Any:
    from catimage.encoders import load_encoder

    return load_encoder(spec)


@lru_cache(maxsize=2)
def _stored(folder: str, _changed: int) -> Embeddings:
    from catimage.encoders.embeddings import Embeddings

    return Embeddings.load(Path(folder))


class _TextFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Common parts: ``model``, ``weights`` and ``revision`` name the encoder as in ``params.yaml``.

    ``stored`` is a folder of embeddings made by the sample stage; prompts that it holds are looked up, others are encoded.
    """

    def __init__(self, model: str = "tiny", weights: str = "", revision: str = "", stored: str | None = None) -> None:
        self.model = model
        self.weights = weights
        self.revision = revision
        self.stored = stored

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Nothing to learn: the encoder is frozen (CATImage 5.1)."""
        self.fitted_ = True
        return self

    def _embed(self, prompts: Sequence[str]) -> Embeddings:
        texts = [str(p) for p in prompts]
        if self.stored is not None:
            folder = Path(self.stored)
            known = _stored(str(folder), folder.stat().st_mtime_ns)
            ids = [prompt_id(t) for t in texts]
            if set(ids) <= set(known.prompt_ids):
                return known.take(ids)
        embedded: Embeddings = _encoder(Encoder(model=self.model, weights=self.weights, revision=self.revision)).encode(texts)
        return embedded


class PooledEmbedding(_TextFeatures):
    """The encoder's embedding of the whole prompt: float32 (n_prompts, width), of unit length."""

    def transform(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embeds a sequence of prompts."""
        return self._embed(prompts).pooled


class TokenEmbedding(_TextFeatures):
    """The encoder's embedding of every token of a prompt, as :class:`~catimage.estimators.ragged.Ragged`."""

    def transform(self, prompts: Sequence[str]) -> Ragged:
        """Embeds a sequence of prompts."""
        embedded = self._embed(prompts)
        return Ragged(embedded.tokens, embedded.offsets)

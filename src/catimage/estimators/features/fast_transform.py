"""Transformation of a few prompts, as in a server, without the overhead of scikit-learn per call.

The results are those of ``transform`` and ``predict`` (to rounding of the last digit), but
validation, tags and the construction of analyzers take several times as long as the computation for
one prompt: for TF-IDF features 1.1 ms instead of 0.1 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

MAX_PROMPTS = 64
"""Largest number of prompts for which the fast transformation is used."""
_ANALYZERS: WeakKeyDictionary[TfidfVectorizer, Callable[[str], Iterable[str]]] = WeakKeyDictionary()
"""The functions that split a prompt into terms; scikit-learn builds one in every call."""
_LOCK = Lock()


def fast_transform(step: Any, x: Any) -> Any:
    """Return ``step.transform(x)``.

    Args:
        step: a fitted transformer.
        x: prompts (n_prompts,), or features (n_prompts, width).
    """
    if type(step) is Pipeline:
        for _, transformer in step.steps:
            x = fast_transform(transformer, x)
        return x
    if type(step) is TfidfVectorizer and len(x) <= MAX_PROMPTS and _is_supported(step):
        return _tfidf(step, x)
    return step.transform(x)


def fast_predict(pipeline: Pipeline, prompts: Any) -> Any:
    """Return ``pipeline.predict(prompts)`` of a fitted pipeline."""
    if type(pipeline) is not Pipeline:
        return pipeline.predict(prompts)
    x = prompts
    for _, transformer in pipeline.steps[:-1]:
        x = fast_transform(transformer, x)
    return pipeline.steps[-1][1].predict(x)


def _is_supported(vectorizer: TfidfVectorizer) -> bool:
    return (
        hasattr(vectorizer, "vocabulary_")
        and vectorizer.norm == "l2"
        and vectorizer.use_idf
        and not vectorizer.binary
    )


def _tfidf(vectorizer: TfidfVectorizer, prompts: Sequence[str]) -> csr_array:
    """Return the TF-IDF features of prompts, CSR (n_prompts, n_terms), rows of length 1."""
    analyze, vocabulary, idf = _analyzer(vectorizer), vectorizer.vocabulary_, vectorizer.idf_
    rows = []
    for prompt in prompts:
        counts: dict[int, int] = {}
        for term in analyze(prompt):
            column = vocabulary.get(term)
            if column is not None:
                counts[column] = counts.get(column, 0) + 1
        columns = np.array(sorted(counts), np.int32)
        data = np.array([counts[c] for c in columns.tolist()], vectorizer.dtype)
        if vectorizer.sublinear_tf:
            data = np.log(data) + data.dtype.type(1)
        data *= idf[columns]
        norm = np.sqrt((data * data).sum(dtype=np.float64))
        rows.append((columns, (data / norm).astype(data.dtype) if norm else data))
    ends = np.cumsum([0, *(len(columns) for columns, _ in rows)], dtype=np.int32)
    return csr_array(
        (np.concatenate([d for _, d in rows]), np.concatenate([c for c, _ in rows]), ends),
        shape=(len(rows), len(vocabulary)),
    )


def _analyzer(vectorizer: TfidfVectorizer) -> Callable[[str], Iterable[str]]:
    with _LOCK:
        analyze = _ANALYZERS.get(vectorizer)
        if analyze is None:
            analyze = _ANALYZERS[vectorizer] = vectorizer.build_analyzer()
    return analyze

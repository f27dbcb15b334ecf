"""Saving and loading of estimators.

A saved estimator consists of a skops file, from which only a fixed list of types is loaded, and a
JSON file with metadata. Pickle is not used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

from catimage.common.files import damage_reported, read_json
from catimage.common.saved_format import check_format
from catimage.errors import InputError
from catimage.estimators.features.steps import nested_instances, set_embeddings_folder
from catimage.estimators.features.text import TextFeatures

FORMAT = 2
"""The version of the file format; files of other versions are refused."""
TRUSTED = [
    "catimage.estimators.clusters.ClusterRegressor",
    "catimage.estimators.differences.DifferencesRegressor",
    "catimage.estimators.extended.ExtendedRegressor",
    "catimage.estimators.features.feature_union.FastFeatureUnion",
    "catimage.estimators.features.feature_union.GaussianKernelFeatures",
    "catimage.estimators.features.text.LayerMeans",
    "catimage.estimators.features.text.PooledEmbedding",
    "catimage.estimators.features.text.RawPrompts",
    "catimage.estimators.features.text.TokenEmbedding",
    "catimage.estimators.features.text_statistics.TextStatistics",
    "catimage.estimators.finetuned.FineTunedRegressor",
    "catimage.estimators.knn.CosineKNNRegressor",
    "catimage.estimators.linear.RidgeRegressor",
    "catimage.estimators.lstm.regressor.LSTMRegressor",
    "catimage.estimators.mlp.MLPRegressor",
    "catimage.estimators.reordered.ReorderedRegressor",
    "catimage.estimators.spread.SpreadRegressor",
    "catimage.estimators.stacking.StackRegressor",
    "catimage.estimators.transformer.TokenMLPRegressor",
]
"""The types that a skops file may contain, in addition to those that skops trusts by default."""


def save(estimator: Pipeline, folder: Path, meta: dict[str, Any]) -> None:
    """Write an estimator to ``folder`` as ``estimator.skops`` and ``estimator.json``.

    Args:
        estimator: the fitted estimator. The paths of its stored embeddings are not saved.
        folder: the output folder, which is created if it does not exist.
        meta: the metadata in ``estimator.json``: JSON values by key.
    """
    from skops.io import dump

    for vectorizer in nested_instances(estimator, TfidfVectorizer):
        if hasattr(vectorizer, "vocabulary_"):  # skops writes one file per numpy integer
            vectorizer.vocabulary_ = {w: int(i) for w, i in vectorizer.vocabulary_.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with _without_embeddings_folder(estimator):
        dump(estimator, folder / "estimator.skops", compression=ZIP_DEFLATED)
    document = json.dumps({"format": FORMAT, **meta}, indent=2)
    (folder / "estimator.json").write_text(document + "\n")


@contextmanager
def _without_embeddings_folder(estimator: Pipeline) -> Iterator[None]:
    """Remove the paths of stored embeddings from the estimator inside the ``with`` block, and
    restore them afterwards.
    """
    stored = [(features, features.stored) for features in nested_instances(estimator, TextFeatures)]
    set_embeddings_folder(estimator, None)
    try:
        yield
    finally:
        for features, folder in stored:
            features.stored = folder


def load(folder: Path, command: str = "train") -> tuple[Pipeline, dict[str, Any]]:
    """Return an estimator and the metadata that :func:`save` wrote to ``folder``.

    Args:
        folder: the folder.
        command: the command that writes the folder, for error messages.

    Raises:
        InputError: the folder contains no estimator, a file is damaged, the format is that of
            another version, or the skops file contains a type that is not in ``TRUSTED``.
    """
    with _torch_not_imported():
        from skops.io import load as skops_load
        from skops.io.exceptions import UntrustedTypesFoundException

    path = folder / "estimator.skops"
    if not path.exists():
        raise InputError(f"{folder}: no estimator found. Run 'catimage {command}' first.")
    meta = read_meta(folder, command)
    with damage_reported(path, command):
        try:
            estimator: Pipeline = skops_load(path, trusted=TRUSTED)
        except UntrustedTypesFoundException as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: the file contains types that are not trusted ({reason})."
                " Run 'catimage train' and 'catimage calibrate' again."
            ) from error
    return estimator, meta


@contextmanager
def _torch_not_imported() -> Iterator[None]:
    """Import skops without torch inside the ``with`` block.

    skops imports all modules of scikit-learn to list its estimators. One of them, which has no
    estimators, imports torch: 3 s and 300 MB in a server that does not need it.
    """
    module = "sklearn.externals.array_api_compat.torch"
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        yield
    finally:
        sys.modules.pop(module, None)


def read_meta(folder: Path, command: str = "train") -> dict[str, Any]:
    """Return the metadata of the estimator that is saved in ``folder``.

    Args:
        folder: the folder.
        command: the command that writes the folder, for error messages.

    Raises:
        InputError: the file is missing or damaged, or the format is that of another version.
    """
    meta = read_json(folder / "estimator.json", command)
    check_format(folder, "estimator", meta.pop("format", None), FORMAT)
    return meta

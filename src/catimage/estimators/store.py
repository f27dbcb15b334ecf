"""Estimators on disk: skops with a fixed list of trusted types, and a JSON beside it. Nothing is
ever unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

from catimage.errors import InputError
from catimage.estimators.features.steps import set_embeddings_folder, nested_instances

TRUSTED = [
    "catimage.estimators.boosting.BoostingRegressor",
    "catimage.estimators.clusters.ClusterRegressor",
    "catimage.estimators.differences.DifferencesRegressor",
    "catimage.estimators.extended.ExtendedRegressor",
    "catimage.estimators.features.text.LayerMeans",
    "catimage.estimators.features.text.PooledEmbedding",
    "catimage.estimators.features.text.RawPrompts",
    "catimage.estimators.features.text.TokenEmbedding",
    "catimage.estimators.finetuned.FineTunedRegressor",
    "catimage.estimators.features.feature_union.JoinedFeatures",
    "catimage.estimators.features.feature_union.KernelMap",
    "catimage.estimators.knn.CosineKNNRegressor",
    "catimage.estimators.linear.RidgeRegressor",
    "catimage.estimators.lstm.regressor.LSTMRegressor",
    "catimage.estimators.mlp.MLPRegressor",
    "catimage.estimators.spread.SpreadRegressor",
    "catimage.estimators.spread.TextShape",
    "catimage.estimators.stacking.StackRegressor",
    "catimage.estimators.transformer.TokenMLPRegressor",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]


def save(estimator: Pipeline, folder: Path, meta: dict[str, Any]) -> None:
    """Writes ``folder``; ``meta`` is JSON (``name, metric, candidates, encoder``)."""
    from skops.io import dump

    set_embeddings_folder(estimator, None)  # a saved estimator is at home anywhere
    for words in nested_instances(estimator, TfidfVectorizer):
        if hasattr(
            words, "vocabulary_"
        ):  # skops would write every numpy integer as a file of its own
            words.vocabulary_ = {word: int(column) for word, column in words.vocabulary_.items()}
    folder.mkdir(parents=True, exist_ok=True)
    dump(estimator, folder / "estimator.skops", compression=ZIP_DEFLATED)
    (folder / "estimator.json").write_text(json.dumps(meta, indent=2) + "\n")


def load(folder: Path) -> tuple[Pipeline, dict[str, Any]]:
    """Reads what :func:`save` wrote.

    Raises:
        InputError: nothing is there, or the file holds a type that is not trusted.
    """
    from skops.io import load as skops_load
    from skops.io.exceptions import UntrustedTypesFoundException

    if not (folder / "estimator.skops").exists():
        raise InputError(f"{folder} holds no estimator: run 'catimage train' first.")
    try:
        estimator: Pipeline = skops_load(folder / "estimator.skops", trusted=TRUSTED)
    except UntrustedTypesFoundException as error:
        raise InputError(
            f"{folder / 'estimator.skops'} holds types that are not trusted ({error}): train it"
            " again."
        ) from error
    return estimator, read_meta(folder)


def read_meta(folder: Path) -> dict[str, Any]:
    """What :func:`save` wrote of an estimator beside it."""
    meta: dict[str, Any] = json.loads((folder / "estimator.json").read_text())
    return meta

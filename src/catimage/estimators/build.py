"""The estimators by kind: each a scikit-learn ``Pipeline`` of a feature step and a multi-output
regressor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sklearn.pipeline import Pipeline

from catimage.errors import InputError, nearest
from catimage.estimators import (
    boosting,
    clusters,
    finetuned,
    knn,
    linear,
    mlp,
    stacking,
    transformer,
)
from catimage.estimators.context import Builder, EstimatorContext, Grid, UnfittedEstimator
from catimage.estimators.differences import with_target
from catimage.estimators.features.steps import feature_step
from catimage.estimators.lstm import regressor as lstm
from catimage.params import FeatureParams

KINDS: Mapping[str, Builder] = {
    "boosting": boosting.build,
    "clusters": clusters.build,
    "finetuned": finetuned.build,
    "kernel_ridge": linear.build_kernel,
    "knn": knn.build,
    "lstm": lstm.build,
    "mlp": mlp.build,
    "ridge": linear.build,
    "stack": stacking.build,
    "transformer": transformer.build,
}


def build_estimator(context: EstimatorContext) -> tuple[Pipeline, Grid]:
    """An unfitted estimator, and the parameters of its regressor among which the validation split
    chooses (empty: none).

    Raises:
        InputError: no such kind, or a setting that its regressor does not have.
    """
    spec = context.spec
    if spec.made_as not in KINDS:
        known = ", ".join(KINDS)
        raise InputError(
            f"train.estimators: no estimator {spec.made_as!r}{nearest(spec.made_as, tuple(KINDS))};"
            f" there are {known}."
        )
    made = KINDS[spec.made_as](context)
    _set(made, spec.settings, spec.name)
    features = spec.features or tuple(FeatureParams(kind=kind) for kind in made.features)
    made = with_target(
        replace(
            made,
            grid={key: values for key, values in made.grid.items() if key not in spec.settings},
        ),
        spec.target,
    )
    return (
        Pipeline(
            [
                ("features", feature_step(features, context.encoder, context.stored)),
                ("regressor", made.regressor),
            ]
        ),
        made.grid,
    )


def _set(made: UnfittedEstimator, settings: Mapping[str, object], name: str) -> None:
    known = made.regressor.get_params()
    for key in settings:
        if key not in known:
            there = ", ".join(sorted(k for k in known if "__" not in k))
            raise InputError(
                f"train.estimators: {name} has no setting {key!r}{nearest(key, tuple(known))};"
                f" there are {there}."
            )
    made.regressor.set_params(**settings)

"""The kinds of estimators, and their assembly into scikit-learn pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from catimage.errors import InputError, nearest
from catimage.estimators import knn, linear, mlp, stacking, transformer
from catimage.estimators.context import Builder, EstimatorContext, Grid
from catimage.estimators.differences import with_target
from catimage.estimators.experimental import EXPERIMENTAL
from catimage.estimators.features.steps import feature_step
from catimage.estimators.lstm import regressor as lstm
from catimage.params import EstimatorParams, FeatureParams

BUILDERS: Mapping[str, Builder] = {
    "kernel_ridge": linear.build_kernel_ridge,
    "knn": knn.build,
    "lstm": lstm.build,
    "mlp": mlp.build,
    "ridge": linear.build,
    "stack": stacking.build,
    "transformer": transformer.build,
    **EXPERIMENTAL,
}
"""The functions that build estimators, by kind (:data:`catimage.params.ESTIMATOR_KINDS`)."""
RENAMED_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "batch": ("batch_size",),
    "encode_steps": ("step_encoding",),
    "epochs": ("max_iter",),
    "exact": ("algorithm",),
    "generators": ("step_groups",),
    "head": ("head_size",),
    "head_rate": ("head_learning_rate",),
    "hidden": ("hidden_layer_sizes", "hidden_size"),
    "layers": ("num_layers",),
    "networks": ("n_estimators",),
    "patience": ("n_iter_no_change",),
    "rate": ("learning_rate",),
    "scanned": ("min_compared",),
    "text": ("embedding",),
}
"""The new names of settings, by their names in earlier versions. A setting has several new names if
the new name depends on the kind of estimator.
"""


def build_estimator(spec: EstimatorParams, context: EstimatorContext) -> tuple[Pipeline, Grid]:
    """Return the unfitted pipeline of an estimator, and the grid of its regressor's parameters.

    The pipeline has the steps ``features`` and ``regressor``. One combination of the values in the
    grid is selected on the validation split; the grid does not contain the parameters that
    ``spec.settings`` sets.

    Args:
        spec: an entry of ``train.estimators``.
        context: the properties of the workspace.

    Raises:
        InputError: the regressor of the kind does not have one of the settings.
    """
    unfitted = BUILDERS[spec.resolved_kind](spec, context)
    _apply_settings(unfitted.regressor, spec)
    free = {key: values for key, values in unfitted.grid.items() if key not in spec.settings}
    unfitted = with_target(replace(unfitted, grid=free), spec.target)
    features = spec.features or tuple(FeatureParams(kind=name) for name in unfitted.features)
    step = feature_step(features, context.encoder, context.embeddings_folder)
    return Pipeline([("features", step), ("regressor", unfitted.regressor)]), unfitted.grid


def _apply_settings(regressor: BaseEstimator, spec: EstimatorParams) -> None:
    """Set the parameters in ``spec.settings``; raise InputError if the regressor has no such
    parameter.
    """
    parameters = regressor.get_params()
    settings = sorted(key for key in parameters if "__" not in key)
    for key in spec.settings:
        if key in parameters:
            continue
        prefix = f"train.estimators: {spec.name}"
        for new in RENAMED_SETTINGS.get(key, ()):
            if new in settings:
                raise InputError(f"{prefix}: the setting {key!r} was renamed. Write {new!r}.")
        raise InputError(
            f"{prefix}: unknown setting {key!r}{nearest(key, settings)}."
            f" Use one of {', '.join(settings)}."
        )
    regressor.set_params(**spec.settings)


def in_dependency_order(estimators: Sequence[EstimatorParams]) -> list[EstimatorParams]:
    """Return the estimators ordered so that the members of a stack come before the stack.

    Raises:
        InputError: stacks are members of each other, or an estimator that is not a stack has
            members.
    """
    for spec in estimators:
        if spec.members and spec.resolved_kind != "stack":
            raise InputError(
                f"train.estimators: {spec.name} has 'members', but its kind is"
                f" {spec.resolved_kind}. Remove 'members', or set its kind to 'stack'."
            )
    ordered: list[EstimatorParams] = []
    waiting = list(estimators)
    while waiting:
        names = {spec.name for spec in ordered}
        ready = [spec for spec in waiting if names.issuperset(spec.members)]
        if not ready:
            raise InputError(
                f"train.estimators: {' and '.join(spec.name for spec in waiting)} are members of"
                " each other. Remove one of them from 'members'."
            )
        ordered += ready
        waiting = [spec for spec in waiting if spec not in ready]
    return ordered

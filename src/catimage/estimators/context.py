"""The input and the result of the functions that build estimators, one such function per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from catimage.estimators.features.steps import EmbeddingsFolder
from catimage.params import EncoderParams, EstimatorParams

Grid = dict[str, list[Any]]
"""Values by parameter, as for :class:`sklearn.model_selection.ParameterGrid`."""


@dataclass(frozen=True)
class EstimatorContext:
    """The facts about a workspace that building its estimators may need.

    Attributes:
        encoder: the text encoder of the workspace.
        embeddings_folder: the folder of stored embeddings by the name of a text encoder; it need
            not exist. None: every prompt is encoded.
        steps: the number of denoising steps of each candidate, in the order of the label columns;
            empty if unknown.
        step_groups: the group of each candidate; the candidates of a group differ only in their
            number of steps (:mod:`catimage.pool.step_groups`). Empty if unknown.
        members: the estimators that a stack may combine, by name.
        seed: of the random numbers that a fit needs.
    """

    encoder: EncoderParams = field(default_factory=EncoderParams)
    embeddings_folder: EmbeddingsFolder | None = None
    steps: tuple[int, ...] = ()
    step_groups: tuple[str, ...] = ()
    members: Mapping[str, Pipeline] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class UnfittedEstimator:
    """An estimator of some kind before it is assembled into a pipeline.

    Attributes:
        regressor: unfitted.
        grid: parameters of ``regressor`` whose values are selected on the validation split.
        features: the kinds of features (:class:`~catimage.params.FeatureParams`) that the
            regressor reads by default.
    """

    regressor: BaseEstimator
    grid: Grid = field(default_factory=dict)
    features: tuple[str, ...] = ("embedding",)


Builder = Callable[[EstimatorParams, EstimatorContext], UnfittedEstimator]

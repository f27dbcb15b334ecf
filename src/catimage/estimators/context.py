"""The input and the result of the functions that build estimators, one such function per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from catimage.data.dataset import Candidates
from catimage.estimators.features.steps import EmbeddingsFolder
from catimage.params import EncoderParams, EstimatorParams, TrainParams
from catimage.pool.loading import load_pool
from catimage.pool.step_groups import step_groups
from catimage.workspace import Workspace

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


def workspace_context(
    workspace: Workspace,
    encoder: EncoderParams,
    train: TrainParams,
    candidates: Candidates,
    pool: str | None,
) -> EstimatorContext:
    """Return the context of the estimators of a workspace, without members.

    Args:
        workspace: the workspace.
        encoder: the section ``encoder`` of params.yaml.
        train: the section ``train``.
        candidates: the candidates with their generators and steps.
        pool: name or file of the pool; None if scores or images were imported.

    Raises:
        InputError: an estimator needs the step groups of the pool, and the pool is invalid.
    """
    groups: tuple[str, ...] = ()
    if any(spec.resolved_kind == "lstm" for spec in train.estimators):
        loaded = None if pool is None else load_pool(pool, workspace.pools)
        generators = dict(zip(candidates.names, candidates.generators, strict=True))
        by_name = step_groups(loaded, generators)
        groups = tuple(by_name[name] for name in candidates.names)
    return EstimatorContext(
        encoder, workspace.embeddings, candidates.steps, groups, seed=train.seed
    )

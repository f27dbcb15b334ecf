"""The argument and the result of the functions that build estimators; there is one such function
per kind of estimator.
"""

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
"""Lists of values by parameter name, as for :class:`sklearn.model_selection.ParameterGrid`."""


@dataclass(frozen=True)
class EstimatorContext:
    """Properties of a workspace that the functions that build estimators may use.

    Attributes:
        encoder: the text encoder of the workspace.
        embeddings_folder: a function from the name of a text encoder to the folder of its stored
            embeddings, which may not exist. If None, every prompt is encoded.
        steps: the number of denoising steps of each candidate, in the order of the label columns;
            empty if unknown.
        step_groups: the group of each candidate; the candidates of a group differ only in their
            number of steps (:mod:`catimage.pool.step_groups`). Empty if unknown.
        members: the estimators that a stack may combine, by name.
        seed: the seed of the random numbers of a fit.
    """

    encoder: EncoderParams = field(default_factory=EncoderParams)
    embeddings_folder: EmbeddingsFolder | None = None
    steps: tuple[int, ...] = ()
    step_groups: tuple[str, ...] = ()
    members: Mapping[str, Pipeline] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class UnfittedEstimator:
    """An unfitted regressor with the information needed to assemble its pipeline.

    Attributes:
        regressor: the unfitted regressor.
        grid: the parameters of ``regressor`` that are selected on the validation split, each with
            its possible values.
        features: the kinds of features (:class:`~catimage.params.FeatureParams`) that the regressor
            reads by default.
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
    """Return the context in which the estimators of a workspace are built; it has no members.

    Args:
        workspace: the workspace.
        encoder: the section ``encoder`` of params.yaml.
        train: the section ``train`` of params.yaml.
        candidates: the candidates with their generators and numbers of denoising steps.
        pool: the name or the file of the pool; None if scores or images were imported.

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

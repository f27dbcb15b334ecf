"""What the estimators of every kind are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from catimage.params import Encoder, EstimatorParams

Grid = dict[str, list[Any]]


@dataclass(frozen=True)
class EstimatorContext:
    """All that a kind may want to know.

    Attributes:
        spec: the estimator as the parameters have it.
        encoder: the workspace's text encoder.
        stored: by the name of an encoder, a folder of embeddings that the sample stage made, to
            look prompts up in.
        steps: denoising steps of each candidate, in the order of the labels' columns; empty where
            they are not known.
        generators: its generator, likewise.
        members: the estimators that a stack is made of, built, by name.
        seed: for whatever is random in the fit.
    """

    spec: EstimatorParams
    encoder: Encoder = field(default_factory=Encoder)
    stored: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[int, ...] = ()
    generators: tuple[str, ...] = ()
    members: Mapping[str, Pipeline] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class UnfittedEstimator:
    """A kind's regressor, unfitted; its parameters among which validation chooses (by bare name);
    and the features that it reads.
    """

    regressor: BaseEstimator
    grid: Grid = field(default_factory=dict)
    features: tuple[str, ...] = ("embedding",)


Builder = Callable[[EstimatorContext], UnfittedEstimator]

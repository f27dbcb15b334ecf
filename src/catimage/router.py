"""The router: an estimator, the candidates' costs, a lambda, and the curve that turns any other budget into a lambda."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from catimage.errors import InputError
from catimage.estimators import store
from catimage.prompts.cleaning import TOO_LONG
from catimage.routing.calibration import lambda_for
from catimage.routing.curve import Curve
from catimage.routing.rule import choose

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    """What the router says of one prompt. ``cost`` is in the router's cost unit, qualities in the metric's."""

    prompt: str
    candidate: str
    cost: float
    predicted_quality: float
    lam: float
    qualities: dict[str, float]


@dataclass(frozen=True)
class Router:
    """Routes prompts by equation 3. Made by the calibrate stage; load one with :meth:`load`.

    Attributes:
        candidates: names, cheapest first; ``costs`` (m,) in ``cost_unit``.
        lam: the calibrated lambda; ``budget`` is what it was calibrated for.
        curve: the deferral curve on the validation split; its lambdas lie safely inside their segments.
    """

    estimator: Pipeline
    estimator_name: str
    metric: str
    cost_unit: str
    pool: str
    candidates: list[str]
    costs: Floats
    budget: float
    lam: float
    curve: Curve

    @classmethod
    def load(cls, folder: Path) -> Router:
        """Reads ``models/router/``.

        Raises:
            InputError: no router is there, or it is damaged.
        """
        import pyarrow.parquet as pq

        try:
            document: dict[str, Any] = json.loads((folder / "router.json").read_text())
            table = pq.read_table(folder / "curve.parquet").to_pydict()
        except FileNotFoundError as error:
            raise InputError(f"{folder} holds no router: run 'catimage calibrate' first.") from error
        except (json.JSONDecodeError, OSError) as error:
            raise InputError(f"{folder} is damaged ({error}): run 'catimage calibrate' again.") from error
        estimator, _ = store.load(folder / "estimator")
        names = ("metric", "cost_unit", "pool", "candidates", "budget")
        curve = Curve(*(np.array(table[k], float) for k in ("lambda", "cost", "quality")))
        return cls(
            estimator=estimator, estimator_name=document["estimator"], costs=np.array(document["costs"], float),
            lam=document["lambda"], curve=curve, **{k: document[k] for k in names},
        )  # fmt: skip

    def predict(self, prompts: list[str]) -> Floats:
        """Expected quality of every candidate: (n_prompts, n_candidates).

        Raises:
            InputError: a prompt is empty or has 100,000 characters or more.
        """
        for i, prompt in enumerate(prompts):
            if not prompt.strip():
                raise InputError(f"prompt {i + 1} is empty: write what the image should show.")
            if len(prompt) >= TOO_LONG:
                raise InputError(f"prompt {i + 1} has {len(prompt):,} characters: {TOO_LONG - 1:,} at most.")
        return np.asarray(self.estimator.predict(np.array(prompts, object)), np.float64)

    def lambda_for(self, budget: float) -> float:
        """The smallest lambda whose mean cost on the validation split is within ``budget``.

        Raises:
            InputError: the budget is below the cheapest candidate.
        """
        return lambda_for(self.curve, budget, float(self.costs.min()))[0]

    def route(self, prompts: list[str], lam: float | None = None, budget: float | None = None) -> list[Decision]:
        """A decision a prompt, by ``lam``, by ``budget`` (mean cost), or by the calibrated lambda.

        Raises:
            InputError: both are given, lambda is negative, the budget is too low, or a prompt is empty or too long.
        """
        if lam is not None and budget is not None:
            raise InputError("give a budget or a lambda, not both.")
        if lam is not None and not lam >= 0:
            raise InputError(f"lambda must be a number of 0 or more, not {lam}.")
        used = self.lambda_for(budget) if budget is not None else self.lam if lam is None else lam
        return self.decide(prompts, self.predict(prompts), used)

    def decide(self, prompts: list[str], qualities: Floats, lam: float) -> list[Decision]:
        """Decisions from predicted qualities (n_prompts, n_candidates)."""
        chosen = choose(qualities, self.costs, lam)
        return [
            Decision(p, self.candidates[m], float(self.costs[m]), float(q[m]), lam, dict(zip(self.candidates, q.tolist(), strict=True)))
            for p, q, m in zip(prompts, qualities, chosen, strict=True)
        ]

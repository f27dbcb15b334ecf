"""The router: an estimator, the candidates' costs, the rule that calibration found, and what turns
any other budget into a rule.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.data.prompts.cleaning import TOO_LONG
from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError
from catimage.estimators import store
from catimage.routing.curve import Curve
from catimage.routing.randomized import FORMAT, Rule, check_budget, rule_within


@dataclass(frozen=True)
class Decision:
    """What the router says of one prompt. ``cost`` is in the router's cost unit, qualities in the
    metric's.
    """

    prompt: str
    candidate: str
    cost: float
    predicted_quality: float
    lam: float
    qualities: dict[str, float]


@dataclass(frozen=True)
class Certified:
    """Rules that keep the budgets (k,), ascending from the cheapest candidate's cost, with the
    router's confidence.
    """

    budgets: Floats
    rules: tuple[Rule, ...]

    def within(self, budget: float) -> Rule:
        """The rule of the largest budget that is no more than ``budget``, which is not below the
        cheapest candidate.
        """
        return self.rules[
            max(int(np.searchsorted(self.budgets, budget * (1 + 1e-12), side="right")) - 1, 0)
        ]


@dataclass(frozen=True)
class Router:
    """Routes prompts by equation 3. Made by the calibrate stage; load one with :meth:`load`.

    Attributes:
        candidates: names, cheapest first; ``costs`` (m,) in ``cost_unit``.
        rule: what was calibrated; ``budget`` is what it was calibrated for.
        curve: the deferral curve on the validation split; its lambdas lie safely inside their
            segments.
        mix: whether two lambdas are mixed so that a budget is used up.
        confidence: with which the true mean cost keeps the budget, or None; ``certified`` has the
            rules that do for other budgets.
        quality_floor: the mean quality that the rule was calibrated to reach, or None.
        floors: by metric, the mean quality that the rule keeps; ``others`` are the estimators of
            these metrics.
        risk_aversion: how many predictive standard deviations, by ``spread``, are taken off the
            predicted quality.
    """

    estimator: Pipeline
    estimator_name: str
    metric: str
    cost_unit: str
    pool: str
    candidates: list[str]
    costs: Floats
    budget: float
    rule: Rule
    curve: Curve
    mix: bool = True
    confidence: float | None = None
    certified: Certified | None = None
    quality_floor: float | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, Pipeline] = field(default_factory=dict)
    risk_aversion: float = 0.0
    spread: Pipeline | None = None

    @classmethod
    def load(cls, folder: Path) -> Router:
        """Reads ``models/router/``.

        Raises:
            InputError: no router is there, it is damaged, or an older CATImage wrote it.
        """
        document, table, certified = _read(folder)
        estimator, _ = store.load(folder / "estimator")
        names = (
            "metric",
            "cost_unit",
            "pool",
            "candidates",
            "budget",
            "mix",
            "confidence",
            "quality_floor",
            "floors",
            "risk_aversion",
        )
        return cls(
            estimator=estimator,
            estimator_name=document["estimator"],
            costs=np.array(document["costs"], float),
            rule=Rule.read(document["rule"], list(document["floors"])),
            curve=Curve(*(np.array(table[k], float) for k in ("lambda", "cost", "quality"))),
            certified=certified,
            others={
                metric: store.load(folder / "others" / metric)[0] for metric in document["floors"]
            },
            spread=store.load(folder / "spread")[0] if document["risk_aversion"] else None,
            **{k: document[k] for k in names},
        )

    @property
    def lam(self) -> float:
        """The largest lambda of the calibrated rule: the one that keeps the budget by itself."""
        return float(self.rule.lam.max())

    def predict(self, prompts: list[str]) -> Floats:
        """Expected quality of every candidate: (n_prompts, n_candidates).

        Raises:
            InputError: a prompt is empty or has 100,000 characters or more.
        """
        for i, prompt in enumerate(prompts):
            if not prompt.strip():
                raise InputError(f"prompt {i + 1} is empty: write what the image should show.")
            if len(prompt) >= TOO_LONG:
                raise InputError(
                    f"prompt {i + 1} has {len(prompt):,} characters: {TOO_LONG - 1:,} at most."
                )
        return np.asarray(self.estimator.predict(np.array(prompts, object)), np.float64)

    def scores(self, prompts: list[str], qualities: Floats) -> Floats:
        """What the rule reads: (1 + n_floors, n_prompts, n_candidates), from the ``qualities`` that
        are predicted.
        """
        texts = np.array(prompts, object)
        cautious = (
            qualities
            if self.spread is None
            else qualities - self.risk_aversion * self.spread.predict(texts)
        )
        return np.stack(
            [cautious, *(np.asarray(e.predict(texts), np.float64) for e in self.others.values())]
        )

    def rule_for(self, lam: float | None = None, budget: float | None = None) -> Rule:
        """The rule of one lambda, of a budget (mean cost), or the calibrated one.

        With ``calibrate.confidence`` a budget gets the rule of the nearest certified budget below
        it.

        Raises:
            InputError: both are given, lambda is negative, the budget is below the cheapest
                candidate, or the router keeps floors, which were calibrated for one budget.
        """
        if lam is not None and budget is not None:
            raise InputError("give a budget or a lambda, not both.")
        if lam is not None and not lam >= 0:
            raise InputError(f"lambda must be a number of 0 or more, not {lam}.")
        if lam is not None:
            return Rule(
                np.ones(1), np.array([lam]), (self.rule.share @ self.rule.multipliers)[None]
            )
        return self.rule if budget is None else self._within(budget)

    def _within(self, budget: float) -> Rule:
        check_budget(budget, float(self.costs.min()))
        if budget == self.budget:
            return self.rule
        if self.floors:
            kept = " and ".join(f"{metric} {floor:g}" for metric, floor in self.floors.items())
            raise InputError(
                f"budget {budget:g}: this router keeps {kept}, as calibrated for {self.budget:g}:"
                " set 'budget', and calibrate again."
            )
        if self.certified is not None:
            return self.certified.within(budget)
        return rule_within(self.curve, budget, float(self.costs.min()), self.mix)[0]

    def route(
        self, prompts: list[str], lam: float | None = None, budget: float | None = None
    ) -> list[Decision]:
        """A decision a prompt, by ``lam``, by ``budget`` (mean cost), or by the calibrated rule.

        Where two lambdas are mixed, a hash of the prompt says by which it goes: the same prompt
        gets the same candidate.

        Raises:
            InputError: as :meth:`rule_for`, or a prompt is empty or too long.
        """
        rule = self.rule_for(lam, budget)
        return self.decide(prompts, self.predict(prompts), rule)

    def decide(self, prompts: list[str], qualities: Floats, rule: Rule) -> list[Decision]:
        """Decisions from predicted qualities (n_prompts, n_candidates)."""
        draws = draws_of(prompts)
        picked = rule.drawn(rule.choices(self.scores(prompts, qualities), self.costs), draws)
        lambdas = rule.lam[rule.parts_of(draws)].tolist()
        return [
            Decision(
                p,
                self.candidates[m],
                float(self.costs[m]),
                float(q[m]),
                lam,
                dict(zip(self.candidates, q.tolist(), strict=True)),
            )
            for p, q, m, lam in zip(prompts, qualities, picked, lambdas, strict=True)
        ]


def draws_of(prompts: list[str]) -> Floats:
    """The draw of each prompt, (n_prompts,), which says by which part of a mixed rule it goes."""
    return np.array([draw_of(p) for p in prompts])


def draw_of(prompt: str) -> float:
    """The draw of a prompt, uniform in [0, 1) over prompts: a hash of its normalised text, and not
    the one that splits are made by.
    """
    return (
        int.from_bytes(hashlib.sha256(f"draw:{prompt_id(prompt)}".encode()).digest()[:8], "big")
        / 2**64
    )


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, list[float]], Certified | None]:
    """``router.json``, the curve's columns, and the certified rules where there are any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    again = "run 'catimage calibrate' again."
    try:
        document: dict[str, Any] = json.loads((folder / "router.json").read_text())
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no router: run 'catimage calibrate' first.") from error
    except (json.JSONDecodeError, OSError) as error:
        raise InputError(f"{folder} is damaged ({error}): {again}") from error
    if document.get("format") != FORMAT:
        raise InputError(
            f"{folder} was written by another version of CATImage, which kept another kind of rule"
            f" there: {again}"
        )
    try:
        curve = pq.read_table(folder / "curve.parquet").to_pydict()
        rows = (
            pq.read_table(folder / "certified.parquet").to_pydict()
            if document["confidence"]
            else None
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{folder} is damaged ({error}): {again}") from error
    return document, curve, None if rows is None else _certified_of(rows)


def _certified_of(rows: dict[str, list[float]]) -> Certified:
    columns = (rows[key] for key in ("share", "dearer_lambda", "lambda"))
    rules = tuple(
        Rule.of((share, dearer), (1 - share, lam))
        for share, dearer, lam in zip(*columns, strict=True)
    )
    return Certified(np.array(rows["budget"], float), rules)

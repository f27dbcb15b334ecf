"""The calibrated router: an estimator, the candidates and their costs, and a routing rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.data.prompts.cleaning import TOO_LONG
from catimage.data.prompts.identity import prompt_draws
from catimage.errors import InputError
from catimage.estimators import store
from catimage.routing.certificate import CertifiedRules
from catimage.routing.curve import DeferralCurve
from catimage.routing.randomized import RoutingRule, check_budget, rule_within

FORMAT = 4
"""Version of the files in ``models/router/``."""


@dataclass(frozen=True)
class Decision:
    """The routing decision for one prompt.

    Attributes:
        prompt: the prompt.
        candidate: name of the selected candidate.
        cost: its cost, in the router's cost unit.
        predicted_quality: its predicted quality, in the metric's unit.
        lam: the lambda that was used.
        qualities: predicted quality of every candidate, by name.
    """

    prompt: str
    candidate: str
    cost: float
    predicted_quality: float
    lam: float
    qualities: dict[str, float]


@dataclass(frozen=True)
class Router:
    """Routes prompts to candidates by equation 3 (CATImage 3.3).

    The calibrate stage writes ``models/router/``; :meth:`load` reads it.

    Attributes:
        estimator: predicts the quality of every candidate from the prompt.
        estimator_name: its name in ``train.estimators``.
        metric: the metric that it predicts.
        cost_unit: unit of ``costs`` and ``budget``.
        pool: name of the pool.
        candidates: names of the candidates, cheapest first.
        costs: cost of one image of each candidate, (n_candidates,).
        budget: mean cost per image that ``rule`` was calibrated for.
        rule: the calibrated rule.
        curve: deferral curve on the validation split, with lambdas inside their segments.
        mix: whether two lambdas may be combined to spend a whole budget.
        confidence: probability that the true mean cost is within the budget, or None.
        certified: rules for other budgets, if there is a confidence.
        quality_floor: mean quality that the rule was calibrated to reach, or None.
        floors: bounds of the mean quality of other metrics, by name.
        floor_estimators: estimators of these metrics, by name.
        risk_aversion: number of predictive standard deviations subtracted from the predicted
            quality.
        spread: estimator of the predictive standard deviations, if ``risk_aversion`` is not 0.
    """

    estimator: Pipeline
    estimator_name: str
    metric: str
    cost_unit: str
    pool: str
    candidates: list[str]
    costs: Floats
    budget: float
    rule: RoutingRule
    curve: DeferralCurve
    mix: bool = True
    confidence: float | None = None
    certified: CertifiedRules | None = None
    quality_floor: float | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    floor_estimators: Mapping[str, Pipeline] = field(default_factory=dict)
    risk_aversion: float = 0.0
    spread: Pipeline | None = None

    @classmethod
    def load(cls, folder: Path) -> Router:
        """Read ``models/router/``.

        Raises:
            InputError: the folder has no router, is damaged, or was written by another version.
        """
        document, curve, certified = _read(folder)
        metrics = list(document["floors"])
        lam, cost, quality = (np.array(curve[k], float) for k in ("lambda", "cost", "quality"))
        settings = {f.name: document[f.name] for f in fields(cls) if f.name in document}
        return cls(
            **settings
            | {
                "estimator": store.load(folder / "estimator")[0],
                "estimator_name": document["estimator"],
                "costs": np.array(document["costs"], float),
                "rule": RoutingRule.from_rows(document["rule"], metrics),
                "curve": DeferralCurve(lam, cost, quality),
                "certified": CertifiedRules.from_columns(certified) if certified else None,
                "floor_estimators": {m: store.load(folder / "floors" / m)[0] for m in metrics},
                "spread": store.load(folder / "spread")[0] if document["risk_aversion"] else None,
            }
        )

    @property
    def lam(self) -> float:
        """The largest lambda of the calibrated rule: the one that keeps the budget alone."""
        return float(self.rule.lam.max())

    def predict(self, prompts: Sequence[str]) -> Floats:
        """Predict the quality of every candidate, (n_prompts, n_candidates).

        Raises:
            InputError: a prompt is empty, or has 100,000 or more characters.
        """
        for i, prompt in enumerate(prompts):
            if not prompt.strip():
                raise InputError(f"prompt {i + 1} is empty. Describe the image.")
            if len(prompt) >= TOO_LONG:
                raise InputError(
                    f"prompt {i + 1} has {len(prompt):,} characters. Shorten it to at most"
                    f" {TOO_LONG - 1:,} characters."
                )
        return np.asarray(self.estimator.predict(np.array(prompts, object)), np.float64)

    def scores(self, prompts: Sequence[str], qualities: Floats) -> Floats:
        """Compute the input of the routing rule from the output of :meth:`predict`.

        Returns:
            (1 + n_floors, n_prompts, n_candidates): the quality minus the risk aversion, and the
            predicted qualities by the metrics with floors.
        """
        texts = np.array(prompts, object)
        routed = qualities
        if self.spread is not None:
            routed = qualities - self.risk_aversion * self.spread.predict(texts)
        floors = [np.asarray(e.predict(texts), np.float64) for e in self.floor_estimators.values()]
        return np.stack([routed, *floors])

    def rule_for(self, lam: float | None = None, budget: float | None = None) -> RoutingRule:
        """Return the rule for a lambda or for a budget, or the calibrated rule.

        With ``calibrate.confidence``, the rule of the largest certified budget within ``budget`` is
        returned.

        Args:
            lam: lambda, in quality units per cost unit.
            budget: mean cost per image.

        Raises:
            InputError: both are given, lambda is negative, the budget is below the cost of the
                cheapest candidate, or the router has floors, calibrated for another budget.
        """
        if lam is not None and budget is not None:
            raise InputError("give a budget or a lambda, not both.")
        if lam is not None and not lam >= 0:
            raise InputError(f"lambda must be a number of 0 or more, not {lam}.")
        if lam is not None:
            multipliers = (self.rule.share @ self.rule.multipliers)[None]
            return RoutingRule(np.ones(1), np.array([lam]), multipliers)
        return self.rule if budget is None else self._rule_within(budget)

    def _rule_within(self, budget: float) -> RoutingRule:
        check_budget(budget, float(self.costs.min()))
        if budget == self.budget:
            return self.rule
        if self.floors:
            floors = " and ".join(f"{metric} {floor:g}" for metric, floor in self.floors.items())
            raise InputError(
                f"budget: {budget:g} is not the budget {self.budget:g} for which the floors of this"
                f" router ({floors}) were calibrated. Set budget in params.yaml, and calibrate"
                " again."
            )
        if self.certified is not None:
            return self.certified.within(budget)
        return rule_within(self.curve, budget, float(self.costs.min()), self.mix)[0]

    def route(
        self, prompts: Sequence[str], lam: float | None = None, budget: float | None = None
    ) -> list[Decision]:
        """Decide for each prompt, by a lambda, by a budget, or by the calibrated rule.

        If the rule combines two lambdas, a hash of the prompt selects one of them: the same prompt
        always gets the same candidate.

        Raises:
            InputError: see :meth:`rule_for` and :meth:`predict`.
        """
        rule = self.rule_for(lam, budget)
        return self.decide(prompts, self.predict(prompts), rule)

    def decide(
        self, prompts: Sequence[str], qualities: Floats, rule: RoutingRule
    ) -> list[Decision]:
        """Decide for each prompt from predicted qualities (n_prompts, n_candidates)."""
        draws = prompt_draws(prompts)
        chosen = rule.select(
            rule.choose_by_part(self.scores(prompts, qualities), self.costs), draws
        )
        lambdas = rule.lam[rule.assign_parts(draws)].tolist()
        return [
            Decision(
                prompt,
                self.candidates[m],
                float(self.costs[m]),
                float(quality[m]),
                lam,
                dict(zip(self.candidates, quality.tolist(), strict=True)),
            )
            for prompt, quality, m, lam in zip(prompts, qualities, chosen, lambdas, strict=True)
        ]


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """Read ``router.json``, the columns of the curve, and those of the certified rules."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        document: dict[str, Any] = json.loads((folder / "router.json").read_text())
        if document.get("format") != FORMAT:
            raise InputError(
                f"{folder}: another version of CATImage wrote this router. Run 'catimage train' and"
                " 'catimage calibrate' again."
            )
        curve = pq.read_table(folder / "curve.parquet").to_pydict()
        if document["confidence"] is None:
            return document, curve, None
        return document, curve, pq.read_table(folder / "certified.parquet").to_pydict()
    except FileNotFoundError as error:
        raise InputError(f"{folder}: no router found. Run 'catimage calibrate'.") from error
    except (json.JSONDecodeError, OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{folder}: the router is damaged ({error}). Run 'catimage calibrate' again."
        ) from error

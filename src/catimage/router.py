"""The calibrated router: an estimator, the candidates and their costs, and a routing rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.data.prompts.cleaning import clean
from catimage.data.router_files import read_router_files
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.fast_predict import fast_predict
from catimage.routing.certificate import CertifiedRules
from catimage.routing.curve import DeferralCurve
from catimage.routing.draws import request_draws
from catimage.routing.randomized import RoutingRule, check_budget, check_number, rule_within


@dataclass(frozen=True)
class Decision:
    """The routing decision for one prompt.

    Attributes:
        prompt: the prompt.
        candidate: name of the selected candidate.
        cost: cost of one image of the selected candidate, in the cost unit of the router.
        predicted_quality: predicted quality of the selected candidate, in the unit of the metric.
        lam: the lambda of equation 3 for this prompt.
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
    """Routes prompts to candidates by equation 3 (CATImage paper, section 3.3).

    The stage calibrate writes a router to ``models/router/``; :meth:`load` reads it.

    Attributes:
        estimator: predicts the quality of every candidate from the prompt.
        estimator_name: name of the estimator in ``train.estimators``.
        metric: name of the metric that the estimator predicts (the routed metric).
        cost_unit: unit of ``costs`` and ``budget``.
        pool: name of the pool of the candidates.
        candidates: names of the candidates, cheapest first.
        costs: cost of one image of each candidate, (n_candidates,).
        budget: mean cost per image for which ``rule`` was calibrated.
        rule: the calibrated rule.
        curve: deferral curve on the validation split.
        mix: whether two lambdas may be combined to spend the whole budget.
        confidence: minimum probability that the true mean cost is within the budget, or None.
        certified: certified rules for other budgets; None without a confidence.
        match_confidence: confidence with which the evaluation certifies that a lambda is as good as
            one candidate.
        quality_floor: mean quality that the rule was calibrated to reach, or None.
        floors: bounds of the mean scores of other metrics, by name.
        floor_estimators: the estimators of the metrics of ``floors``, by metric.
        risk_aversion: number of predictive standard deviations to subtract from the predicted
            quality.
        spread: estimator of the predictive standard deviations; None if ``risk_aversion`` is 0.
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
    match_confidence: float = 0.95
    quality_floor: float | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    floor_estimators: Mapping[str, Pipeline] = field(default_factory=dict)
    risk_aversion: float = 0.0
    spread: Pipeline | None = None

    @classmethod
    def load(cls, folder: Path) -> Router:
        """Read a router from its folder, ``models/router/`` in a workspace.

        Raises:
            InputError: there is no router, it is damaged, or another version wrote it.
        """
        document, curve, certified = read_router_files(folder)
        metrics = list(document["floors"])
        lam, cost, quality = (np.array(curve[k], float) for k in ("lambda", "cost", "quality"))
        settings = {f.name: document[f.name] for f in fields(cls) if f.name in document}
        return cls(
            **settings
            | {
                "estimator": _load(folder / "estimator"),
                "estimator_name": document["estimator"],
                "costs": np.array(document["costs"], float),
                "rule": RoutingRule.from_rows(document["rule"], metrics),
                "curve": DeferralCurve(lam, cost, quality),
                "certified": CertifiedRules.from_columns(certified) if certified else None,
                "floor_estimators": {m: _load(folder / "floors" / m) for m in metrics},
                "spread": _load(folder / "spread") if document["risk_aversion"] else None,
            }
        )

    @property
    def lam(self) -> float:
        """The largest lambda of the calibrated rule."""
        return float(self.rule.lam.max())

    def predict(self, prompts: Sequence[str]) -> Floats:
        """Predict the quality of every candidate for each prompt, (n_prompts, n_candidates).

        Raises:
            InputError: a prompt is empty, is too long, or is not valid Unicode text
                (:func:`catimage.data.prompts.cleaning.clean`).
        """
        for i, prompt in enumerate(prompts):
            clean(prompt, f"prompt {i + 1}")
        return np.asarray(fast_predict(self.estimator, np.array(prompts, object)), np.float64)

    def rule_inputs(self, prompts: Sequence[str], qualities: Floats) -> Floats:
        """Compute the input of the routing rule from the output of :meth:`predict`.

        Returns:
            Predictions, (1 + n_floors, n_prompts, n_candidates): ``qualities`` minus
            ``risk_aversion`` predictive standard deviations, then the metrics of ``floors``.
        """
        texts = np.array(prompts, object)
        routed = qualities
        if self.spread is not None:
            routed = qualities - self.risk_aversion * fast_predict(self.spread, texts)
        floors = [
            np.asarray(fast_predict(e, texts), np.float64) for e in self.floor_estimators.values()
        ]
        return np.stack([routed, *floors])

    def rule_for(self, lam: float | None = None, budget: float | None = None) -> RoutingRule:
        """Return the rule for a lambda or for a budget; the calibrated rule without arguments.

        If the router has a confidence, the rule for a budget is that of the largest certified
        budget that is at most ``budget``. A larger budget never has a rule with a lower mean cost
        or a lower mean predicted quality.

        Args:
            lam: lambda, in quality units per cost unit.
            budget: mean cost per image, in the cost unit of the router.

        Raises:
            InputError: both are given, one is not a finite number, lambda is negative, the budget
                is below the cost of the cheapest candidate, or the floors were calibrated for
                another budget.
        """
        if lam is not None and budget is not None:
            raise InputError("budget: cannot be set together with lambda. Remove one of them.")
        if lam is not None:
            if check_number(lam, "lambda") < 0:
                raise InputError(f"lambda: must be a number of 0 or more, not {lam}. Correct it.")
            multipliers = (self.rule.share @ self.rule.multipliers)[None]
            return RoutingRule(np.ones(1), np.array([float(lam)]), multipliers)
        return self.rule if budget is None else self._rule_within(budget)

    def _rule_within(self, budget: float) -> RoutingRule:
        budget = check_budget(budget, float(self.costs.min()))
        if budget == self.budget:
            return self.rule
        if self.floors:
            floors = " and ".join(f"{metric} {floor:g}" for metric, floor in self.floors.items())
            raise InputError(
                f"budget: {budget:g} is not the budget {self.budget:g} for which the floors of this"
                f" router ({floors}) were calibrated. Set 'budget' in params.yaml, and run"
                " 'catimage calibrate' again."
            )
        if self.certified is not None:
            return self.certified.within(budget)
        return rule_within(self.curve, budget, self.costs, self.mix)[0]

    def route(
        self,
        prompts: Sequence[str],
        lam: float | None = None,
        budget: float | None = None,
        seed: int | str | None = None,
        request_ids: Sequence[str] | None = None,
    ) -> list[Decision]:
        """Select a candidate for each prompt with the rule of :meth:`rule_for`.

        If the rule has several lambdas, one of them is drawn for each request. Without a seed and
        ids, the draws are random. With them, the decisions are repeatable, see
        :func:`catimage.routing.draws.request_draws`.

        Args:
            prompts: the prompts.
            lam: see :meth:`rule_for`.
            budget: see :meth:`rule_for`.
            seed: makes the decision depend on the seed, the position and the prompt only.
            request_ids: one id per prompt, which replaces the position.

        Raises:
            InputError: see :meth:`rule_for` and :meth:`predict`; or the number of ids is wrong.
        """
        rule = self.rule_for(lam, budget)
        return self.decide(prompts, self.predict(prompts), rule, seed, request_ids)

    def decide(
        self,
        prompts: Sequence[str],
        qualities: Floats,
        rule: RoutingRule,
        seed: int | str | None = None,
        request_ids: Sequence[str] | None = None,
    ) -> list[Decision]:
        """Select a candidate for each prompt from the output of :meth:`predict`.

        See :meth:`route` for the other arguments.
        """
        draws = request_draws(prompts, seed, request_ids)
        chosen = rule.select(
            rule.choose_by_part(self.rule_inputs(prompts, qualities), self.costs), draws
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


def _load(folder: Path) -> Pipeline:
    return store.load(folder, "calibrate")[0]

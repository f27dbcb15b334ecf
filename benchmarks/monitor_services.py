"""Simulated services of the benchmark ``monitor_outcomes``: decisions by the pacing of the service,
and the checks of ``catimage monitor`` on their log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.monitor_router import Kind, Traffic
from catimage.common.arrays import Floats, Ints
from catimage.monitoring.checks import check_cost, check_decisions, check_streams, quality_stream
from catimage.monitoring.outcome import CheckOutcome, judged
from catimage.monitoring.quality import check_quality
from catimage.params import MonitorParams
from catimage.serving.pacers import Pacer, static_rule

CHECKS = ("decisions", "cost", "quality", "streams")
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Conditions:
    """The traffic and the candidates in some hours.

    Attributes:
        kind: name of the kind of prompts.
        prices: factors of the costs of some candidates, by position.
        changes: changes of the scores of some candidates, by position, in standard deviations of
            the labels.
    """

    kind: str = "coco"
    prices: dict[int, float] = field(default_factory=dict)
    changes: dict[int, float] = field(default_factory=dict)


class Services:
    """Independent services with the same router.

    Args:
        data: the router and the prompts.
        count: number of services.
        settings: the section ``monitor``.
        seed: seed of the requests.
        pace: the setting ``serving.pace``.
        checks: names of the checks to run.
    """

    def __init__(
        self,
        data: Traffic,
        count: int,
        settings: MonitorParams,
        seed: int,
        pace: bool = True,
        checks: Sequence[str] = CHECKS,
    ) -> None:
        router, budget = data.router, data.expected.budget
        self.data, self.settings, self.checks = data, settings, checks
        rule = static_rule(router, budget, pace)
        self.pacers = [Pacer(router, budget, rule, pace) for _ in range(count)]
        self.rng, self.hours = np.random.default_rng(seed), 0
        self.states: list[dict[str, dict[str, Any]]] = [{} for _ in range(count)]
        self.last: list[dict[str, datetime]] = [{} for _ in range(count)]
        self.names = np.array(router.candidates, object)

    def hour(self, conditions: Sequence[Conditions], cuts: Ints, n: int) -> list[list[str]]:
        """Serve the requests of an hour, and run the checks.

        Args:
            conditions: those before and after a shift.
            cuts: number of requests of each service before the shift, (n_services,).
            n: number of requests.

        Returns:
            The names of the checks that raise an alarm, for each service.
        """
        self.hours += 1
        after = np.arange(n) >= cuts[:, None]
        parts = [self._requests(part, n) for part in conditions]
        predicted, prices, labels, qualities = (
            np.where(after.reshape(after.shape + (1,) * (a.ndim - 2)), b, a)
            for a, b in zip(*parts, strict=True)
        )
        chosen, paid, lam = self._serve(predicted, prices)
        return [
            self._check(i, chosen[i], paid[i], lam[i], qualities[i], predicted[i], labels[i])
            for i in range(len(self.pacers))
        ]

    def _requests(self, conditions: Conditions, n: int) -> tuple[np.ndarray, ...]:
        """Draw requests: predictions, prices, labels (services, n, m) and mappings."""
        kind: Kind = self.data.prompts_by_kind[conditions.kind]
        rows = self.rng.integers(0, len(kind.predicted), (len(self.pacers), n))
        predicted = kind.predicted[rows]
        prices = self.data.router.costs.copy()
        for position, factor in conditions.prices.items():
            prices[position] *= factor
        labels = np.full(predicted.shape, np.nan) if kind.labels is None else kind.labels[rows]
        for position, change in conditions.changes.items():
            labels[..., position] += change * (self.data.expected.label_spread or 1)
        prices = np.broadcast_to(prices, predicted.shape)
        return predicted, prices, labels, kind.qualities[rows]

    def _serve(self, predicted: Floats, prices: Floats) -> tuple[Ints, Floats, Floats]:
        """Return the chosen candidates, the costs and the lambdas, which follow the costs, each
        (services, n).
        """
        services, n = predicted.shape[:2]
        chosen, lambdas = np.zeros((services, n), int), np.zeros((services, n))
        costs, everyone = self.data.router.costs, np.arange(services)
        for k in range(n):
            rules = [pacer.rule() for pacer in self.pacers]
            draws = self.rng.random((services, 1))
            parts = [r.assign_parts(draws[i])[0] for i, r in enumerate(rules)]
            lambdas[:, k] = [float(r.lam[j]) for r, j in zip(rules, parts, strict=True)]
            values = predicted[:, k] - lambdas[:, k, None] * costs
            chosen[:, k] = values.argmax(1)
            paid = prices[everyone, k, chosen[:, k]]
            for pacer, cost in zip(self.pacers, paid.tolist(), strict=True):
                pacer.record(cost, 1)
        return chosen, np.take_along_axis(prices, chosen[..., None], 2)[..., 0], lambdas

    def _check(
        self,
        i: int,
        chosen: Ints,
        paid: Floats,
        lam: Floats,
        qualities: np.ndarray,
        predicted: Floats,
        labels: Floats,
    ) -> list[str]:
        """Run the checks of a service, and return the names of those that raise an alarm."""
        until, alarms = START + timedelta(hours=self.hours), []
        rows = pd.DataFrame(
            {
                "candidate": pd.Series(self.names[chosen], dtype=object),
                "cost": paid,
                "lambda": lam,
                "pressure": 0.0,
                "images": 1,
                "status": 200,
                "qualities": pd.Series(qualities, dtype=object),
            }
        )
        for name in self.checks:
            state = self.states[i].get(name, {})
            outcome = self._outcome(name, state, rows, chosen, predicted, labels, until)
            cooldown = timedelta(hours=self.settings.cooldown_hours)
            result, self.states[i][name] = judged(
                name, outcome, self.last[i].get(name), until, cooldown
            )
            if result.status == "alarm":
                self.last[i][name] = until
                alarms.append(name)
        return alarms

    def _outcome(
        self,
        name: str,
        state: dict[str, Any],
        rows: pd.DataFrame,
        chosen: Ints,
        predicted: Floats,
        labels: Floats,
        until: datetime,
    ) -> CheckOutcome:
        expected = self.data.expected
        if name == "decisions":
            return check_decisions(state, rows, expected, self.settings)
        if name == "cost":
            return check_cost(state, rows, expected, self.settings)
        if name == "streams":
            streams = {"quality": quality_stream(rows, expected)}
            return check_streams(state, streams, self.settings)
        new = self._audits(chosen, predicted, labels, until)
        return check_quality(state, new, new, until, expected, False, self.settings)

    def _audits(
        self, chosen: Ints, predicted: Floats, labels: Floats, until: datetime
    ) -> pd.DataFrame:
        """Score the selected candidate and another one of some requests."""
        count = min(self.settings.audit.prompts, len(chosen))
        rows = []
        for k in self.rng.choice(len(chosen), count, replace=False):
            other = (chosen[k] + self.rng.integers(1, len(self.names))) % len(self.names)
            for m in (int(chosen[k]), int(other)):
                if np.isfinite(labels[k, m]):
                    key = (until - timedelta(seconds=60 - int(k)), str(k), self.names[m])
                    rows.append((*key, float(predicted[k, m]), float(labels[k, m])))
        return pd.DataFrame(
            rows, columns=["time", "request_id", "candidate", "predicted", "score"]
        ).astype({"predicted": float, "score": float})

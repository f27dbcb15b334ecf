"""False alarms and delays of the checks of decisions, cost and quality of ``catimage monitor``.

    python -m benchmarks monitor_outcomes

The candidates and scores are real (:mod:`benchmarks.monitor_router`); the services keep the budget
by their pacing. Steady traffic is drawn from captions of COCO that are not those of the router, at
1,000 requests a day with hourly checks, as in the benchmark ``monitor``. All settings are defaults.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Row
from benchmarks.monitor_router import Traffic, available, traffic
from benchmarks.monitor_services import CHECKS, Conditions, Services
from benchmarks.monitor_simulation import DAYS, sizes
from catimage.params import MonitorParams
from catimage.params.monitor import AuditParams

SERVICES, SHIFTS, WARM_UP_HOURS, LONGEST_HOURS = 40, 40, 48, 168
AUDITS = (1, 2, 4, 8)
"""Numbers of audits per hour whose delays are compared."""
TARGET = 12


def rows() -> Iterator[Row]:
    """Yield the alarms on steady traffic, and the delays of each check for some shifts."""
    if not available():
        yield Row("monitor_outcomes", "no scores found, skipped. Set CATIMAGE_SHARED.")
        return
    data = traffic()
    alarms = false_alarms(data)
    for check in CHECKS:
        yield Row(f"alarms in {DAYS:,} steady days, check {check}", str(alarms[check]))
    total = sum(alarms.values())
    yield Row("alarms of these checks together", str(total), target=f"at most {TARGET}")
    for name, shift, checks in _shifts(data):
        for check in checks:
            yield _delay_row(data, name, shift, check, MonitorParams())
    worse = next(shift for name, shift, _ in _shifts(data) if name.startswith("all"))
    for audits in AUDITS:
        settings = MonitorParams(audit=AuditParams(prompts=audits))
        name = f"{audits} audits per hour ({audit_cost(data, audits):.0%} more cost)"
        yield _delay_row(data, name, worse, "quality", settings)


def false_alarms(data: Traffic, seed: int = 1) -> Counter[str]:
    """Count the alarms of each check in :data:`DAYS` days, divided among services."""
    services, steady = Services(data, SERVICES, MonitorParams(), seed), (Conditions(),) * 2
    found, no_shift = Counter[str](), np.zeros(SERVICES, int)
    for hour, n in enumerate(sizes(DAYS * 24 // SERVICES)):
        for alarms in services.hour(steady, no_shift, n):
            found.update(alarms)
        if hour % 240 == 239:
            print(f"{SERVICES * (hour + 1) // 24} days: {dict(found)}", file=sys.stderr)
    return found


def delays(
    data: Traffic, shift: Conditions, check: str, settings: MonitorParams, seed: int = 2
) -> np.ndarray:
    """Requests after a shift until the hourly check that raises an alarm, (SHIFTS,).

    The shift comes after steady traffic, at a random request of an hour. Infinite without an alarm
    within :data:`LONGEST_HOURS` hours.
    """
    services = Services(data, SHIFTS, settings, seed, checks=[check])
    no_shift, found = np.zeros(SHIFTS, int), np.full(SHIFTS, np.inf)
    for n in sizes(WARM_UP_HOURS):
        services.hour((Conditions(),) * 2, no_shift, n)
    cuts = np.random.default_rng(seed).integers(0, n, SHIFTS)
    seen = -cuts
    for n in sizes(LONGEST_HOURS):
        raised = services.hour((Conditions(), shift), np.maximum(-seen, 0), n)
        seen = seen + n
        new = np.array([bool(alarms) for alarms in raised]) & np.isinf(found)
        found[new] = seen[new]
        if np.isfinite(found).all():
            break
    return found


def audit_cost(data: Traffic, audits: int) -> float:
    """Return the cost of the audits as a share of the cost of 1,000 requests a day."""
    costs, budget = data.router.costs, data.expected.budget
    return float(audits * 24 * (budget + costs.mean()) / (1000 * budget))


def _shifts(data: Traffic) -> Iterator[tuple[str, Conditions, tuple[str, ...]]]:
    """Yield shifts: name, conditions, and the checks to measure."""
    top = int(np.argmax(data.expected.shares))
    everything = dict.fromkeys(range(len(data.router.candidates)), -1.0)
    outcomes = ("decisions", "cost", "quality")
    yield "COCO to DiffusionDB", Conditions("diffusiondb"), (*outcomes, "streams")
    yield "COCO to PartiPrompts", Conditions("partiprompts"), ("decisions", "cost", "streams")
    yield "price of the main candidate 50% higher", Conditions(prices={top: 1.5}), ("cost",)
    for name, changes in (
        ("scores of the main candidate 2 SD lower", {top: -2.0}),
        ("scores of the main candidate 1 SD lower", {top: -1.0}),
        ("all scores 1 SD lower", everything),
    ):
        yield name, Conditions(changes=changes), ("quality",)


def _delay_row(
    data: Traffic, name: str, shift: Conditions, check: str, settings: MonitorParams
) -> Row:
    found = delays(data, shift, check, settings)
    median, late = (np.quantile(found, q, method="higher") for q in (0.5, 0.95))
    value = f"median {median:.0f}, 95% {late:.0f}; {np.isfinite(found).mean():.0%} noticed"
    return Row(f"{name}, check {check}: requests until the alarm", value)

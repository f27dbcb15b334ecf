"""The deployments of ``prefect.yaml``, and their schedules when the clocks change."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import date, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from flows.automations import FLOWS
from flows.run_once import OUTAGE_SETTINGS
from flows.setup import POOLS
from prefect import Flow
from prefect.server.schemas.schedules import CronSchedule

ROOT = Path(__file__).parents[2]
BERLIN = ZoneInfo("Europe/Berlin")
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())[
    "deployments"
]
CHANGES = [(2026, 3, 29), (2026, 10, 25), (2027, 3, 28), (2027, 10, 31), (2028, 3, 26)]
"""Days on which daylight-saving time begins or ends in Berlin."""


def runs_by_day(cron: str, zone: str, first: date, days: int) -> Counter[date]:
    """Return the number of runs on each day in Berlin, by Prefect's own schedule."""
    start = datetime(first.year, first.month, first.day, tzinfo=BERLIN)
    schedule = CronSchedule(cron=cron, timezone=zone)
    end = start + timedelta(days=days, seconds=-1)
    dates = asyncio.run(schedule.get_dates(n=days * 30, start=start, end=end))
    return Counter(moment.astimezone(BERLIN).date() for moment in dates)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["nightly", "nightly-gpu", "daily"])
def test_the_nightly_run_happens_exactly_once_a_day_across_the_changes(
    name: str, change: tuple[int, int, int]
) -> None:
    (deployment,) = [d for d in DEPLOYMENTS if d["name"] == name]
    (schedule,) = deployment["schedules"]
    assert schedule["timezone"] == "Europe/Berlin"
    first = date(*change) - timedelta(days=3)
    counts = runs_by_day(schedule["cron"], schedule["timezone"], first, 7)
    assert counts == {first + timedelta(days=i): 1 for i in range(7)}


def test_the_hour_of_the_change_would_not_do() -> None:
    """At 02:30 in Berlin, a day of the changes would have no run at that time, or two."""
    days = [date(*change) for change in CHANGES]
    first, length = days[0] - timedelta(days=1), (days[-1] - days[0]).days + 3
    times = asyncio.run(
        CronSchedule(cron="30 2 * * *", timezone="Europe/Berlin").get_dates(
            n=length,
            start=datetime(first.year, first.month, first.day, tzinfo=BERLIN),
            end=datetime(first.year, first.month, first.day, tzinfo=BERLIN)
            + timedelta(days=length),
        )
    )
    local = [moment.astimezone(BERLIN) for moment in times]
    by_day = Counter(moment.date() for moment in local)
    regular = [by_day[d] == 1 and any(m.date() == d and m.hour == 2 for m in local) for d in days]
    assert not all(regular)


def test_the_monitor_runs_every_hour_of_the_days_of_the_changes() -> None:
    (deployment,) = [d for d in DEPLOYMENTS if d["name"] == "hourly"]
    (schedule,) = deployment["schedules"]
    assert schedule["timezone"] == "UTC"
    for change, hours in ((CHANGES[0], 23), (CHANGES[1], 25)):
        counts = runs_by_day(schedule["cron"], "UTC", date(*change), 1)
        assert counts[date(*change)] == hours


def test_only_one_nightly_schedule_is_active() -> None:
    active = [
        d["name"] for d in DEPLOYMENTS for schedule in d.get("schedules", []) if schedule["active"]
    ]
    assert active == ["nightly", "hourly", "daily"]


def test_failures_of_all_deployments_are_reported_and_runs_bridge_outages() -> None:
    assert {d["entrypoint"].rpartition(".")[2] for d in DEPLOYMENTS} == set(FLOWS)
    expected = {setting.name: str(value) for setting, value in OUTAGE_SETTINGS.items()}
    for deployment in DEPLOYMENTS:
        assert deployment["work_pool"]["job_variables"] == {"env": expected}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["entrypoint"])
def test_each_deployment_names_a_flow_its_parameters_and_a_work_pool(
    deployment: dict[str, Any],
) -> None:
    module, _, name = deployment["entrypoint"].rpartition(".")
    flow = getattr(import_module(module), name)
    assert isinstance(flow, Flow) and flow.name == name
    assert set(deployment["parameters"]) <= set(flow.parameters.properties)
    flow.validate_parameters(deployment["parameters"])
    assert deployment["work_pool"]["name"] in POOLS
    assert deployment["concurrency_limit"]["limit"] == 1
    strategy = deployment["concurrency_limit"]["collision_strategy"]
    assert strategy == ("CANCEL_NEW" if deployment.get("schedules") else "ENQUEUE")

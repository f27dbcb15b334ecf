"""The rule of alarms, and the report."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from catimage.monitoring.outcome import CheckOutcome, CheckResult, evidence_share, judged
from catimage.monitoring.report import MonitorReport
from tests.monitoring.decisions import NOON

DAY = timedelta(days=1)


def outcome(evidence: float) -> CheckOutcome:
    return CheckOutcome({"evidence": evidence}, {"evidence": 0}, evidence, 5, "Five requests.")


def test_an_alarm_needs_the_whole_evidence():
    result, state = judged("cost", outcome(0.99), None, NOON, DAY)
    assert (result.status, result.last_alarm, state["evidence"]) == ("ok", None, 0.99)
    result, state = judged("cost", outcome(1.0), None, NOON, DAY)
    assert (result.status, result.last_alarm) == ("alarm", NOON.isoformat())
    assert state["evidence"] == 0


def test_no_alarm_and_no_evidence_within_the_cooldown():
    result, state = judged("cost", outcome(5.0), NOON, NOON + DAY / 2, DAY)
    assert (result.status, state["evidence"]) == ("paused", 0)
    assert result.message == "Five requests. No further alarm until 2026-05-05 12:00 UTC."
    assert judged("cost", outcome(5.0), NOON, NOON + DAY, DAY)[0].status == "alarm"


def test_evidence_is_a_share_on_a_logarithmic_scale():
    assert evidence_share(float("-inf"), 100) == 0
    assert evidence_share(-3.0, 100) == 0
    assert evidence_share(2.302585, 100) == pytest.approx(0.5)


def test_a_report_survives_json_and_names_the_alarms():
    checks = (
        CheckResult("prompts", "alarm", "Drift.", 1.2, 40, NOON.isoformat(), {"auc": 0.9}),
        CheckResult("quality", "skipped", "No prompts."),
    )
    report = MonitorReport(NOON - timedelta(hours=1), NOON, 1200, 3, checks)
    document = json.loads(json.dumps(report.to_document()))
    assert MonitorReport.from_document(document) == report
    assert report.alarms == document["alarms"] == ["prompts"]
    assert report.sentences == [
        "monitor: 1,200 requests from 2026-05-04 11:00 UTC to 2026-05-04 12:00 UTC, 3 late rows of"
        " earlier intervals ignored",
        "prompts: alarm: Drift.",
        "quality: skipped: No prompts.",
    ]

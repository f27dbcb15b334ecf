"""The Grafana dashboard names only metrics and labels that the service exports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser as promql

from catimage.serving.telemetry.definitions import METRICS

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana-dashboard.json"
PROCESS = {"process_resident_memory_bytes"}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
SERIES = {name + end: f for name, f in METRICS.items() for end in SUFFIXES[f.kind]}


def panels() -> list[dict[str, Any]]:
    return [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"]


def expressions() -> list[tuple[promql.Expr, str]]:
    """The parsed expressions of all panels, and the texts of their legends."""
    return [
        (promql.parse(t["expr"].replace("$__rate_interval", "5m")), t["legendFormat"])
        for panel in panels()
        for t in panel["targets"]
    ]


def nodes(expression: promql.Expr) -> list[promql.Expr]:
    found: list[promql.Expr] = []
    promql.walk(expression, pre_visit=found.append)
    return found


def selectors(expression: promql.Expr) -> list[promql.VectorSelector]:
    found = [getattr(n, "vector_selector", n) for n in nodes(expression)]
    return [n for n in found if isinstance(n, promql.VectorSelector)]


def test_every_metric_and_label_of_the_dashboard_exists() -> None:
    used = set()
    for expression, legend in expressions():
        known: set[str] = set()
        for selector in selectors(expression):
            name = str(selector.name)
            used.add(name)
            labels = set(SERIES[name].labels) if name not in PROCESS else set()
            assert {m.name for m in selector.matchers.matchers} <= labels, name
            known |= labels | ({"le"} if name.endswith("_bucket") else set())
        for node in nodes(expression):
            modifier = getattr(node, "modifier", None)
            if isinstance(node, promql.AggregateExpr) and modifier:
                assert set(modifier.labels) <= known, str(expression)
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= known, legend
    assert used <= SERIES.keys() | PROCESS


def test_every_metric_is_on_the_dashboard() -> None:
    used = {str(s.name) for expression, _ in expressions() for s in selectors(expression)}
    missing = [n for n, f in METRICS.items() if not {n + e for e in SUFFIXES[f.kind]} & used]
    assert missing == []


def test_counters_and_histograms_are_read_as_rates() -> None:
    for expression, _ in expressions():
        ranges = [n for n in nodes(expression) if isinstance(n, promql.MatrixSelector)]
        names = [str(n.vector_selector.name) for n in ranges]
        counted = [str(s.name) for s in selectors(expression)]
        counted = [n for n in counted if n not in PROCESS and SERIES[n].kind != "gauge"]
        assert sorted(set(names)) == sorted(set(counted)), str(expression)


def test_panels_have_units_and_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        grid = panel["gridPos"]
        own = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not own & cells, panel["title"]
        cells |= own
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids)) >= 20
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels())

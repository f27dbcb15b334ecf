from __future__ import annotations

from pathlib import Path

import pytest

from catimage.errors import InputError
from catimage.tracking.lineage import flatten, read_metrics, run_metrics
from catimage.workspace import Workspace


def test_nested_keys_are_joined_with_dots_and_none_values_are_left_out() -> None:
    flat = flatten({"a": {"b": 1, "c": [1, 2]}, "d": None})
    assert flat == {"a.b": 1, "a.c": "[1, 2]"}


def test_run_metrics_are_the_numbers_of_the_router_and_of_the_estimators() -> None:
    method = {
        "mean_curve_quality": 0.5,
        "max_quality": 0.6,
        "selected": {"match": {"cost_ratio": None, "gain": 0.1, "interval": [0, 1]}},
    }
    metrics = run_metrics(
        {
            "budget": {"estimator": "knn", "target": 2},
            "best_single": {"cost": 1.0},
            "oracle_quality": 0.7,
            "methods": {"knn": method, "fixed": method},
        }
    )
    assert metrics["knn.selected.match.gain"] == 0.1
    assert metrics["budget.target"] == 2.0
    assert not [k for k in metrics if k.startswith("fixed") or "interval" in k or "cost_ratio" in k]


def test_a_missing_metrics_file_is_reported_with_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Run 'catimage evaluate' first"):
        read_metrics(Workspace(tmp_path))

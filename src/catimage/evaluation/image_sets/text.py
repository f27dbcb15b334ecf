"""Sentences about the key ``sets`` of ``metrics.json``."""

from __future__ import annotations

from typing import Any

from catimage.common.formatting import format_gain, format_number
from catimage.evaluation.intervals import verdict


def image_set_lines(sets: dict[str, Any] | None) -> list[str]:
    """Return one sentence per set metric, and one per reason why metrics are left out.

    In these sentences, ``±`` precedes the jackknife standard error of a metric.
    """
    if sets is None:
        return []
    lines = [
        _metric_line(name, metric, sets["n_images"]) for name, metric in sets["metrics"].items()
    ]
    return lines + [f"Left out: {reason}" for reason in sets["left_out"]]


def _metric_line(name: str, metric: dict[str, Any], images: int) -> str:
    budget, real = metric["budget"], metric["real"]
    better = "higher" if metric["higher_is_better"] else "lower"
    line = (
        f"{name} ({better} is better) of the routed set of {images:,} images: {_with_error(budget)}"
    )
    fixed = budget["best_fixed"]
    if fixed:
        line += (
            f"; the set of {fixed['candidate']}: {_with_error(fixed)}, a gain of the router of"
            f" {format_gain(fixed['gain'], fixed['interval'])}: {verdict(fixed['interval'])}"
        )
    return line + (f"; a second set of real images: {_with_error(real)}." if real else ".")


def _with_error(values: dict[str, float]) -> str:
    return f"{format_number(values['value'])} ± {format_number(values['se'], 2)}"

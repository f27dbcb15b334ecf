"""Figures of BudgetFusion's evaluation: the distribution of t*, and errors by step (figure 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def step_share_figure(document: dict[str, Any]) -> Figure:
    """Draw the share of the test prompts that each number of steps receives, predicted and
    according to the labels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.6))
    axes = figure.subplots()
    places, chosen = np.arange(len(document["steps"])), document["chosen"]
    share_by_labels = chosen["known"]["share"]
    axes.bar(places - 0.2, chosen["share"], 0.4, color="#33608c", label="OURS")
    axes.bar(places + 0.2, share_by_labels, 0.4, color="#c9c9c9", label="by the labels themselves")
    axes.set_xticks(places, [str(s) for s in document["steps"]])
    axes.set_xlabel("steps")
    axes.set_ylabel("share of the prompts")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def step_error_figure(document: dict[str, Any]) -> Figure:
    """Draw figure 12: the mean absolute error at each step with its standard error, and that of the
    training labels' mean.
    """
    from matplotlib.figure import Figure

    by_metric = document["error_by_step"]
    figure = Figure(figsize=(3.0 * len(by_metric), 2.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(by_metric)))
    for axes, (metric, rows) in zip(panels, by_metric.items(), strict=True):
        steps, errors = [row["steps"] for row in rows], [row["mae"] for row in rows]
        bars = [row["se"] or 0 for row in rows]
        axes.errorbar(steps, errors, bars, fmt=".-", label=document["estimator"])
        of_mean = [row["mae_of_mean"] for row in rows]
        axes.plot(steps, of_mean, "--", color="#9a9a9a", label="mean of the training labels")
        axes.set_xscale("log")
        axes.set_xticks(steps, [str(s) for s in steps], fontsize=7)
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_title(metric, fontsize=9, parse_math=False)
        axes.set_xlabel("steps")
    panels[0].set_ylabel("mean absolute error")
    panels[-1].legend(fontsize=7)
    return figure

"""Figures of the plateau rule, drawn with matplotlib.

They show how many steps the prompts receive, and the prediction error at each number of steps
(BudgetFusion paper, figure 12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def step_share_figure(document: dict[str, Any]) -> Figure:
    """Draw the share of the test prompts that receive each number of steps.

    OURS is the plateau rule on predicted qualities; the other bars are the rule on the labels.

    Args:
        document: the key ``plateau`` of ``metrics.json``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.6))
    axes = figure.subplots()
    positions, chosen = np.arange(len(document["steps"])), document["chosen"]
    share_by_labels = chosen["known"]["share"]
    axes.bar(positions - 0.2, chosen["share"], 0.4, color="#33608c", label="OURS")
    axes.bar(
        positions + 0.2, share_by_labels, 0.4, color="#c9c9c9", label="by the labels themselves"
    )
    axes.set_xticks(positions, [str(s) for s in document["steps"]])
    axes.set_xlabel("steps")
    axes.set_ylabel("share of the prompts")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def step_error_figure(document: dict[str, Any]) -> Figure:
    """Draw figure 12: the mean absolute error at each number of steps.

    The bars are standard errors. The dashed line is the error if every prediction were the mean of
    the training labels.

    Args:
        document: the key ``plateau`` of ``metrics.json``.
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

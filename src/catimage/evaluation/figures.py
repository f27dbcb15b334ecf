"""The figures of the report, drawn with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.evaluation.samples import PromptResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 12
"""Maximum number of candidates in the figure of predictions."""
DASHED_COLOURS = {"oracle": "#9a9a9a", "mix": "#c9a227"}
"""Colours of the methods that are drawn with dashed lines."""
RED, GREY = "#b3261e", "#9a9a9a"


def _new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1
) -> tuple[Figure, np.ndarray]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if rows * columns > 1 else None)
    return figure, np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()


def deferral_figure(document: dict[str, Any]) -> Figure:
    """Draw the deferral curve of every method, the fixed candidates and the calibrated router."""
    figure, (axes,) = _new_figure(7.2, 4.2)
    for name, method in document["methods"].items():
        cost, quality = np.array([row[:2] for row in method["curve"]]).T
        if name == "fixed":
            axes.plot(cost, quality, "k*", markersize=8, label="fixed candidates", zorder=5)
        elif name in DASHED_COLOURS:
            if name == "mix":
                cost, quality = _straight_edge_points(cost, quality)
            axes.plot(cost, quality, "--", color=DASHED_COLOURS[name], linewidth=1.2, label=name)
        else:
            axes.plot(cost, quality, linewidth=1.6, label=name)
    budget = document["budget"]
    point = budget["realised_mean_cost"], budget["realised_quality"]
    axes.plot(*point, "o", color=RED, markersize=7, label="calibrated", zorder=6)
    axes.axvline(budget["target"], color=RED, linewidth=0.8, linestyle=":", label="budget")
    _finish_curves(axes, document)
    return figure


def _straight_edge_points(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Interpolate the straight edges of a curve, which are curved on a logarithmic cost axis."""
    low, high = cost.min(), cost.max()
    costs = np.geomspace(low, high, 200) if low > 0 else np.linspace(0, high, 200)
    return costs, np.interp(costs, cost[::-1], quality[::-1])


def subsets_figure(document: dict[str, Any]) -> Figure:
    """Draw the deferral curves of the whole pool and of single generators.

    This is figure 3 of the CATImage paper.
    """
    figure, (axes,) = _new_figure(7.2, 4.2)
    curves = {"whole pool": document["methods"][document["budget"]["estimator"]]["curve"]}
    curves |= {f"{row['generator']} alone": row["curve"] for row in document["subsets"]}
    for name, curve in curves.items():
        cost, quality = np.array([row[:2] for row in curve]).T
        axes.plot(cost, quality, linewidth=1.6, label=_escaped([name])[0])
    cost, quality = np.array([(row["cost"], row["quality"]) for row in document["candidates"]]).T
    axes.plot(cost, quality, "k*", markersize=8, label="fixed candidates", zorder=5)
    _finish_curves(axes, document)
    return figure


def _finish_curves(axes: Axes, document: dict[str, Any]) -> None:
    """Add axis labels, the cost scale and a legend to a figure of deferral curves."""
    _label_points(axes, document["candidates"])
    axes.margins(x=0.08)
    _log_if_wide(axes, [row["cost"] for row in document["candidates"]])
    axes.set_xlabel(f"mean cost ({document['cost_unit']})")
    negated = " (negated)" if document["lower_is_better"] else ""
    axes.set_ylabel(f"mean {document['metric']}{negated}")
    _add_legend(axes)


def _add_legend(axes: Axes, reverse: bool = False) -> None:
    entries = len(axes.get_legend_handles_labels()[1])
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        reverse=reverse,
        fontsize=8,
        ncols=1 + entries // 18,
    )


def _label_points(axes: Axes, candidates: list[dict[str, Any]]) -> None:
    """Write the name of each candidate beside its point."""
    for row in candidates:
        axes.annotate(
            row["candidate"],
            (row["cost"], row["quality"]),
            (4, -10),
            textcoords="offset points",
            fontsize=7,
            color="#444444",
            parse_math=False,
        )


def _log_if_wide(axes: Axes, costs: list[float]) -> None:
    """Use a logarithmic cost axis if the largest cost is at least 20 times the smallest."""
    if min(costs) > 0 and max(costs) / min(costs) >= 20:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")


def selection_figure(
    selection: pd.DataFrame, candidates: list[str], rule: list[dict[str, Any]]
) -> Figure:
    """Draw the share of the prompts that each candidate receives as a function of lambda.

    Args:
        selection: the table of :func:`catimage.evaluation.selection.selection_table`.
        candidates: the names of the candidates.
        rule: the parts of the calibrated rule, each with its ``lambda``.
    """
    import matplotlib as mpl

    figure, (axes,) = _new_figure(7.2, 3.2)
    shares = selection.pivot(index="lambda", columns="candidate", values="share")[candidates]
    positive = shares.index[shares.index > 0]
    if len(positive):
        axes.set_xscale("symlog", linthresh=float(np.quantile(positive, 0.05)), linscale=0.4)
    colours = mpl.colormaps["viridis_r"](np.linspace(0.05, 0.95, len(candidates)))
    end = pd.Index([shares.index[-1] * 1.3 or 1.0])
    shares = pd.concat([shares, shares.iloc[[-1]].set_axis(end)])
    values = shares.to_numpy().T
    axes.stackplot(shares.index, values, labels=_escaped(candidates), colors=colours, step="post")
    for i, part in enumerate(rule):
        label = "" if i else "calibrated lambda"
        axes.axvline(part["lambda"], color=RED, linewidth=1.2, label=label)
    axes.set_xlim(0, end[0])
    axes.set_ylim(0, 1)
    axes.set_xlabel("lambda")
    axes.set_ylabel("share of the prompts")
    _add_legend(axes, reverse=True)
    return figure


def _escaped(names: list[str]) -> list[str]:
    """Escape names so that matplotlib shows them literally.

    Without escapes, a leading underscore hides a legend entry and dollar signs enclose mathematics.
    """
    return [
        ("\u200b" + name if name.startswith("_") else name).replace("$", r"\$") for name in names
    ]


def prediction_figure(results: PromptResults) -> Figure:
    """Draw measured against predicted quality, with one panel for each of up to 12 candidates."""
    predicted, labels, names = results.predicted, results.labels, results.candidates.names
    count = min(MAX_PANELS, len(names))
    columns_drawn = np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))
    width = min(4, len(columns_drawn))
    height = -(-len(columns_drawn) // width)
    figure, panels = _new_figure(1.9 * width, 1.9 * height, height, width)
    ends = [min(predicted.min(), labels.min()), max(predicted.max(), labels.max())]
    point_style = {"s": 4, "alpha": 0.35, "color": "#33608c", "linewidths": 0, "rasterized": True}
    for axes, m in zip(panels, columns_drawn, strict=False):
        axes.plot(ends, ends, color="#bbbbbb", linewidth=0.8)
        axes.scatter(predicted[:, m], labels[:, m], **point_style)
        axes.set_title(names[m], fontsize=8, parse_math=False)
    for axes in panels[len(columns_drawn) :]:
        axes.set_visible(False)
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("measured (mean over seeds)", fontsize=9)
    return figure


def image_sets_figure(metrics: dict[str, Any], unit: str) -> Figure:
    """Draw each set metric (a metric of a whole set of images) against the mean cost.

    Args:
        metrics: the key ``sets.metrics`` of ``metrics.json``.
        unit: the cost unit.
    """
    figure, panels = _new_figure(3.6 * len(metrics), 2.9, columns=len(metrics))
    for axes, (name, metric) in zip(panels, metrics.items(), strict=True):
        _draw_set_metric(axes, metric)
        better = "higher" if metric["higher_is_better"] else "lower"
        axes.set_title(f"{name} ({better} is better)", fontsize=9)
        axes.set_xlabel(f"mean cost ({unit})")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def _draw_set_metric(axes: Axes, metric: dict[str, Any]) -> None:
    """Draw the metric of fixed sets, routed sets, the calibrated router's set and real images."""
    rows = sorted(metric["by_candidate"], key=lambda row: float(row["selected_cost"]))
    costs, values = [row["cost"] for row in rows], [row["value"] for row in rows]
    axes.plot(costs, values, "k*", markersize=7, label="fixed candidates")
    routed = [(row["selected_cost"], row["selected"]["value"]) for row in rows]
    axes.plot(*zip(*routed, strict=True), ".-", label="routed")
    budget, real = metric["budget"], metric["real"]
    axes.plot(budget["cost"], budget["value"], "o", color=RED, label="calibrated")
    if real:
        axes.axhline(real["value"], color=GREY, linestyle="--", linewidth=1, label="real images")
    _log_if_wide(axes, costs)

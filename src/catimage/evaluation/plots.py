"""Data for ``dvc plots``, and the figures of the report."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.evaluation.plateau_plots import step_errors, step_shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 12
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "catimage",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "legend.frameon": False,
}
BASELINES = {"oracle": "#9a9a9a", "mix": "#c9a227"}


def deferral_table(document: dict[str, Any]) -> pd.DataFrame:
    """Columns ``method, cost, quality, lambda``: every method's curve of the routed metric."""
    rows = [(name, *row) for name, method in document["methods"].items() for row in method["curve"]]
    return pd.DataFrame(rows, columns=["method", "cost", "quality", "lambda"])


def figures(
    document: dict[str, Any], selection: pd.DataFrame, predicted: Floats, labels: Floats
) -> dict[str, str]:
    """The figures as SVG texts, by name: ``deferral``, ``selection``, ``predicted``, and
    ``subsets`` and ``sets`` where there are any.

    Args:
        selection: see :func:`catimage.evaluation.selection.selection_table`.
        predicted: the router's predictions (n_test, n_candidates); ``labels`` likewise.
    """
    import matplotlib as mpl

    candidates = [row["candidate"] for row in document["candidates"]]
    with mpl.rc_context(STYLE):
        drawn = {
            "deferral": _deferral(document),
            "selection": _selection(selection, candidates, document["budget"]["rule"]),
            "predicted": _predicted(predicted, labels, candidates),
        }
        if document.get("subsets"):
            drawn["subsets"] = _subsets(document)
        if (document.get("sets") or {}).get("metrics"):
            drawn["sets"] = _sets(document["sets"]["metrics"], document["cost_unit"])
        if document.get("plateau"):
            drawn |= {
                "plateau_steps": step_shares(document["plateau"]),
                "plateau_errors": step_errors(document["plateau"]),
            }
        return {name: _svg(figure) for name, figure in drawn.items()}


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return out.getvalue()


def _figure(
    width: float, height: float, rows: int = 1, columns: int = 1
) -> tuple[Figure, np.ndarray]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if rows * columns > 1 else None)
    return figure, np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()


def _deferral(document: dict[str, Any]) -> Figure:
    figure, (axes,) = _figure(7.2, 4.2)
    for name, method in document["methods"].items():
        cost, quality = np.array([row[:2] for row in method["curve"]]).T
        if name == "fixed":
            axes.plot(cost, quality, "k*", markersize=8, label="fixed candidates", zorder=5)
        elif name in BASELINES:
            if name == "mix":  # straight in cost, and so not on a logarithmic axis
                places = (
                    np.geomspace(cost.min(), cost.max(), 200)
                    if cost.min() > 0
                    else np.linspace(0, cost.max(), 200)
                )
                cost, quality = places, np.interp(places, cost[::-1], quality[::-1])
            axes.plot(cost, quality, "--", color=BASELINES[name], linewidth=1.2, label=name)
        else:
            axes.plot(cost, quality, linewidth=1.6, label=name)
    budget = document["budget"]
    axes.plot(
        budget["realised_mean_cost"],
        budget["realised_quality"],
        "o",
        color="#b3261e",
        markersize=7,
        label="calibrated",
        zorder=6,
    )
    axes.axvline(budget["target"], color="#b3261e", linewidth=0.8, linestyle=":", label="budget")
    _axes_of_curves(axes, document)
    return figure


def _subsets(document: dict[str, Any]) -> Figure:
    """CATImage's figure 3: the whole pool's curve, and those of single generators' candidates."""
    figure, (axes,) = _figure(7.2, 4.2)
    curves = {"whole pool": document["methods"][document["budget"]["estimator"]]["curve"]}
    for name, curve in (
        curves | {f"{row['generator']} alone": row["curve"] for row in document["subsets"]}
    ).items():
        cost, quality = np.array([row[:2] for row in curve]).T
        axes.plot(cost, quality, linewidth=1.6, label=_plain([name])[0])
    cost, quality = np.array([(row["cost"], row["quality"]) for row in document["candidates"]]).T
    axes.plot(cost, quality, "k*", markersize=8, label="fixed candidates", zorder=5)
    _axes_of_curves(axes, document)
    return figure


def _axes_of_curves(axes: Axes, document: dict[str, Any]) -> None:
    _name_points(axes, document["candidates"])
    axes.margins(x=0.08)
    _log_if_wide(axes, [row["cost"] for row in document["candidates"]])
    axes.set_xlabel(f"mean cost ({document['cost_unit']})")
    axes.set_ylabel(
        f"mean {document['metric']}" + (" (negated)" if document["lower_is_better"] else "")
    )
    _legend(axes)


def _legend(axes: Axes, reverse: bool = False) -> None:
    entries = len(axes.get_legend_handles_labels()[1])
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        reverse=reverse,
        fontsize=8,
        ncols=1 + entries // 18,
    )


def _name_points(axes: Axes, candidates: list[dict[str, Any]]) -> None:
    for row in candidates:
        place = (row["cost"], row["quality"])
        axes.annotate(
            row["candidate"],
            place,
            (4, -10),
            textcoords="offset points",
            fontsize=7,
            color="#444444",
            parse_math=False,
        )


def _log_if_wide(axes: Axes, costs: list[float]) -> None:
    if min(costs) > 0 and max(costs) / min(costs) >= 20:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")


def _selection(
    selection: pd.DataFrame, candidates: list[str], rule: list[dict[str, Any]]
) -> Figure:
    import matplotlib as mpl

    figure, (axes,) = _figure(7.2, 3.2)
    shares = selection.pivot(index="lambda", columns="candidate", values="share")[candidates]
    positive = shares.index[shares.index > 0]
    if len(positive):
        axes.set_xscale("symlog", linthresh=float(np.quantile(positive, 0.05)), linscale=0.4)
    colours = mpl.colormaps["viridis_r"](np.linspace(0.05, 0.95, len(candidates)))
    end = pd.Index([shares.index[-1] * 1.3 or 1.0])
    shares = pd.concat([shares, shares.iloc[[-1]].set_axis(end)])
    axes.stackplot(
        shares.index, shares.to_numpy().T, labels=_plain(candidates), colors=colours, step="post"
    )
    for i, part in enumerate(rule):
        axes.axvline(
            part["lambda"], color="#b3261e", linewidth=1.2, label="" if i else "calibrated lambda"
        )
    axes.set_xlim(0, end[0])
    axes.set_ylim(0, 1)
    axes.set_xlabel("lambda")
    axes.set_ylabel("share of the prompts")
    _legend(axes, reverse=True)
    return figure


def _plain(names: list[str]) -> list[str]:
    """Names as matplotlib shows them literally: no mathematics between dollars, nothing hidden by a
    leading underscore.
    """
    return [
        ("\u200b" + name if name.startswith("_") else name).replace("$", r"\$") for name in names
    ]


def _predicted(predicted: Floats, labels: Floats, candidates: list[str]) -> Figure:
    """Predicted against measured quality: a panel a candidate, of many candidates twelve that span
    the costs.
    """
    shown = np.unique(
        np.linspace(0, len(candidates) - 1, min(PANELS, len(candidates))).round().astype(int)
    )
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure, panels = _figure(1.9 * columns, 1.9 * rows, rows, columns)
    ends = [min(predicted.min(), labels.min()), max(predicted.max(), labels.max())]
    for axes, m in zip(panels, shown, strict=False):
        axes.plot(ends, ends, color="#bbbbbb", linewidth=0.8)
        axes.scatter(
            predicted[:, m],
            labels[:, m],
            s=4,
            alpha=0.35,
            color="#33608c",
            linewidths=0,
            rasterized=True,
        )
        axes.set_title(candidates[m], fontsize=8, parse_math=False)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("measured (mean over seeds)", fontsize=9)
    return figure


def _sets(metrics: dict[str, Any], unit: str) -> Figure:
    """A panel a metric of sets: value against mean cost, of the fixed candidates and of the router
    at their costs.
    """
    figure, panels = _figure(3.6 * len(metrics), 2.9, columns=len(metrics))
    for axes, (name, metric) in zip(panels, metrics.items(), strict=True):
        rows, budget = (
            sorted(metric["by_candidate"], key=lambda row: float(row["selected_cost"])),
            metric["budget"],
        )
        axes.plot(
            [row["cost"] for row in rows],
            [row["value"] for row in rows],
            "k*",
            markersize=7,
            label="fixed candidates",
        )
        axes.plot(
            [row["selected_cost"] for row in rows],
            [row["selected"]["value"] for row in rows],
            ".-",
            label="routed",
        )
        axes.plot(budget["cost"], budget["value"], "o", color="#b3261e", label="calibrated")
        if metric["real"]:
            axes.axhline(
                metric["real"]["value"],
                color="#9a9a9a",
                linestyle="--",
                linewidth=1,
                label="real images",
            )
        _log_if_wide(axes, [row["cost"] for row in rows])
        axes.set_title(
            f"{name} ({'higher' if metric['higher_is_better'] else 'lower'} is better)", fontsize=9
        )
        axes.set_xlabel(f"mean cost ({unit})")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure

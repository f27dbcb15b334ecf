"""The table of the deferral curves for ``dvc plots``, and the figures of the report as SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pandas as pd

from catimage.evaluation.figures import (
    deferral_figure,
    image_sets_figure,
    prediction_figure,
    selection_figure,
    subsets_figure,
)
from catimage.evaluation.plateau.plots import step_error_figure, step_share_figure
from catimage.evaluation.samples import PromptResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RC_PARAMS: dict[Any, Any] = {
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
"""Settings of matplotlib; a constant hash salt makes the SVG files reproducible."""


def deferral_table(document: dict[str, Any]) -> pd.DataFrame:
    """Return the curves of the routed metric: columns ``method, cost, quality, lambda``."""
    rows = [(name, *row) for name, method in document["methods"].items() for row in method["curve"]]
    return pd.DataFrame(rows, columns=["method", "cost", "quality", "lambda"])


def draw_figures(
    document: dict[str, Any], selection: pd.DataFrame, results: PromptResults
) -> dict[str, str]:
    """Draw the figures of the report.

    Args:
        document: the content of ``metrics.json``.
        selection: the table of :func:`catimage.evaluation.selection.selection_table`.
        results: predictions and labels of the test prompts.

    Returns:
        SVG texts by name: ``deferral``, ``selection`` and ``predicted``; also ``subsets``,
        ``sets``, ``plateau_steps`` and ``plateau_errors`` if the document contains their data.
    """
    import matplotlib as mpl

    candidates = [row["candidate"] for row in document["candidates"]]
    with mpl.rc_context(RC_PARAMS):
        by_name = {
            "deferral": deferral_figure(document),
            "selection": selection_figure(selection, candidates, document["budget"]["rule"]),
            "predicted": prediction_figure(results),
        }
        if document.get("subsets"):
            by_name["subsets"] = subsets_figure(document)
        if (document.get("sets") or {}).get("metrics"):
            by_name["sets"] = image_sets_figure(document["sets"]["metrics"], document["cost_unit"])
        if document.get("plateau"):
            by_name["plateau_steps"] = step_share_figure(document["plateau"])
            by_name["plateau_errors"] = step_error_figure(document["plateau"])
        return {name: _svg(figure) for name, figure in by_name.items()}


def deferral_svg(document: dict[str, Any]) -> str:
    """Draw the deferral curves of ``metrics.json`` as SVG text."""
    import matplotlib as mpl

    with mpl.rc_context(RC_PARAMS):
        return _svg(deferral_figure(document))


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return buffer.getvalue()

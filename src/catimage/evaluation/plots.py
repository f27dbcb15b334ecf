"""Tables for ``dvc plots``, and the figures of the report as SVG."""

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


def deferral_table(document: dict[str, Any]) -> pd.DataFrame:
    """Return the curves of the routed metric: columns ``method, cost, quality, lambda``."""
    rows = [(name, *row) for name, method in document["methods"].items() for row in method["curve"]]
    return pd.DataFrame(rows, columns=["method", "cost", "quality", "lambda"])


def figures(
    document: dict[str, Any], selection: pd.DataFrame, results: PromptResults
) -> dict[str, str]:
    """Draw the figures of the report.

    Args:
        document: ``metrics.json``.
        selection: see :func:`catimage.evaluation.selection.selection_table`.
        results: predictions and labels of the test prompts.

    Returns:
        SVG texts by name: ``deferral``, ``selection``, ``predicted``, and where the document has
        the data ``subsets``, ``sets``, ``plateau_steps``, ``plateau_errors``.
    """
    import matplotlib as mpl

    candidates = [row["candidate"] for row in document["candidates"]]
    with mpl.rc_context(STYLE):
        drawn = {
            "deferral": deferral_figure(document),
            "selection": selection_figure(selection, candidates, document["budget"]["rule"]),
            "predicted": prediction_figure(results),
        }
        if document.get("subsets"):
            drawn["subsets"] = subsets_figure(document)
        if (document.get("sets") or {}).get("metrics"):
            drawn["sets"] = image_sets_figure(document["sets"]["metrics"], document["cost_unit"])
        if document.get("plateau"):
            drawn["plateau_steps"] = step_share_figure(document["plateau"])
            drawn["plateau_errors"] = step_error_figure(document["plateau"])
        return {name: _svg(figure) for name, figure in drawn.items()}


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return out.getvalue()

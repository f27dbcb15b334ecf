"""``report.html``: one page that needs nothing else, from ``metrics.json`` and a few prompts."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation import text as words
from catimage.evaluation import uncertainty
from catimage.evaluation.formatting import plateau_lines, relative_gain
from catimage.evaluation.intervals import verdict
from catimage.evaluation.samples import Sample
from catimage.evaluation.sets import sentences


def fit_table(predicted: Floats, labels: Floats, candidates: list[str]) -> list[dict[str, Any]]:
    """How well the router predicts, a row a candidate: root mean squared error, that of the mean
    label, and correlation.

    ``correlation`` (Pearson) is None where either side does not vary. Both arrays are (n_test,
    n_candidates).
    """
    rows = []
    for name, p, y in zip(candidates, predicted.T, labels.T, strict=True):
        varies = len(y) > 1 and np.ptp(p) > 0 and np.ptp(y) > 0
        rows.append(
            {
                "candidate": name,
                "error": float(np.sqrt(np.mean((p - y) ** 2))),
                "error_of_mean": float(y.std()),
                "correlation": float(np.corrcoef(p, y)[0, 1]) if varies else None,
            }
        )
    return rows


def report(
    document: dict[str, Any],
    figures: dict[str, str],
    fit: list[dict[str, Any]],
    shown: dict[str, list[Sample]],
) -> str:
    """The page.

    Args:
        document: ``metrics.json``.
        figures: SVG texts by name, see :func:`catimage.evaluation.plots.figures`.
        fit: see :func:`fit_table`.
        shown: prompts to show, with or without images: ``samples``, ``successes`` and ``failures``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("catimage", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": words.number, "percent": words.percent}
    environment.globals |= {
        "gain": words.gain,
        "verdict": verdict,
        "left_out": words.left_out,
        "why_beside": words.why_beside,
    }
    environment.globals |= {"plateau_lines": plateau_lines, "relative_gain": relative_gain}
    page: str = environment.get_template("report.html.j2").render(
        document=document,
        headline=words.headline(document),
        rivals=words.rivals(document),
        budget=words.budget_line(document),
        decision=words.decision_line(document),
        direction=words.direction(document),
        few=words.few(document),
        figures={
            name: f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
            for name, svg in figures.items()
        },
        fit=fit,
        samples=shown["samples"],
        successes=shown.get("successes", []),
        failures=shown.get("failures", []),
        own_cost_line=words.own_cost(document),
        noise_line=words.noise_line(document),
        set_lines=sentences(document.get("sets")),
        uncertainty_lines=uncertainty.sentences(document.get("uncertainty")),
    )
    return page

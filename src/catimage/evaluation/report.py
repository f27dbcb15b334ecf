"""The report: one self-contained HTML page with figures, tables and sample prompts."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catimage.common.formatting import (
    format_gain,
    format_interval,
    format_number,
    format_percent,
    format_share,
)
from catimage.data.shards.images import first_images
from catimage.evaluation import text
from catimage.evaluation.cases import case_samples
from catimage.evaluation.image_sets.text import image_set_lines
from catimage.evaluation.intervals import verdict
from catimage.evaluation.match_text import match_line
from catimage.evaluation.off_policy.text import METHODS, left_out_lines, weights_line
from catimage.evaluation.operating_point import OperatingPoint
from catimage.evaluation.plateau.text import plateau_lines, relative_gain
from catimage.evaluation.samples import PromptResults, Sample, contrasting_prompts, samples
from catimage.evaluation.uncertainty.document import uncertainty_lines

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class ReportPrompts:
    """The prompts that the report shows, with their images.

    Attributes:
        samples: prompts of the section "Sample prompts".
        successes: prompts for which the router is much better than a fixed candidate.
        failures: prompts for which the router is much worse than that candidate.
    """

    samples: list[Sample]
    successes: list[Sample] = field(default_factory=list)
    failures: list[Sample] = field(default_factory=list)


def report_prompts(
    results: PromptResults, point: OperatingPoint, cases: dict[str, Any], images: Path | None
) -> ReportPrompts:
    """Select the prompts of the report and read their images.

    Args:
        results: predictions and labels of the test prompts.
        point: the calibrated router on these prompts.
        cases: the key ``cases`` of ``metrics.json``.
        images: the folder of the image shards; None if the prompts have no images.
    """
    costs = results.candidates.costs
    rows = contrasting_prompts(results.predicted, costs)
    listed = cases["successes"] + cases["failures"]
    ids = [results.ids[row] for row in rows.tolist()] + [case["prompt_id"] for case in listed]
    encoded = first_images(images, list(dict.fromkeys(ids))) if images else {}
    return ReportPrompts(
        samples(rows, results, point.served(costs), encoded),
        *(
            case_samples(cases[kind], cases["candidate"], results, encoded)
            for kind in ("successes", "failures")
        ),
    )


def error_rows(results: PromptResults) -> list[dict[str, Any]]:
    """Return the prediction errors, one row per candidate.

    ``error`` is the root mean squared error of the predictions, ``error_of_mean`` the root mean
    squared error if every prediction were the mean label, and ``correlation`` is Pearson's
    correlation between predictions and labels (None if either is constant).
    """
    rows = []
    columns = zip(results.candidates.names, results.predicted.T, results.labels.T, strict=True)
    for name, predicted, labels in columns:
        varies = len(labels) > 1 and np.ptp(predicted) > 0 and np.ptp(labels) > 0
        rows.append(
            {
                "candidate": name,
                "error": float(np.sqrt(np.mean((predicted - labels) ** 2))),
                "error_of_mean": float(labels.std()),
                "correlation": float(np.corrcoef(predicted, labels)[0, 1]) if varies else None,
            }
        )
    return rows


def render_report(
    document: dict[str, Any],
    figures: dict[str, str],
    errors: list[dict[str, Any]],
    prompts: ReportPrompts,
    off_policy: dict[str, Any] | None = None,
) -> str:
    """Return the HTML text of the report.

    Args:
        document: the content of ``metrics.json``.
        figures: SVG texts by name, see :func:`catimage.evaluation.plots.draw_figures`.
        errors: the rows of :func:`error_rows`.
        prompts: the prompts to show; images may be missing.
        off_policy: the estimates on logged traffic; None without logged outcomes.
    """
    page: str = (
        _environment()
        .get_template("report.html.j2")
        .render(
            document=document,
            figures={name: _svg_uri(svg) for name, svg in figures.items()},
            errors=errors,
            prompts=prompts,
            **_sentences(document),
            **_off_policy_variables(off_policy),
        )
    )
    return page


def _environment() -> Environment:
    """Return the Jinja environment of the report's templates, with their filters and functions."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("catimage", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": format_interval,
        "number": format_number,
        "percent": format_percent,
    }
    environment.globals |= {
        "gain": format_gain,
        "share": format_share,
        "verdict": verdict,
        "relative_gain": relative_gain,
        "left_out_line": text.left_out_line,
        "baselines_line": text.baselines_line,
    }
    return environment


def _svg_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _sentences(document: dict[str, Any]) -> dict[str, Any]:
    """Return the sentences of the report by the names of their template variables."""
    return {
        "headline": match_line(document),
        "comparisons": [text.headline(document), *text.further_comparisons(document)],
        "budget_line": text.budget_line(document),
        "decision_line": text.decision_line(document),
        "direction": text.direction(document),
        "few_prompts_line": text.few_prompts_line(document),
        "router_cost_line": text.router_cost_line(document),
        "noise_line": text.noise_line(document),
        "image_set_lines": image_set_lines(document.get("sets")),
        "uncertainty_lines": uncertainty_lines(document.get("uncertainty")),
        "plateau_lines": plateau_lines(document.get("plateau")),
    }


def _off_policy_variables(off_policy: dict[str, Any] | None) -> dict[str, Any]:
    """Return the template variables of the section about logged traffic."""
    variables: dict[str, Any] = {"off_policy": off_policy, "off_policy_methods": METHODS}
    if off_policy:
        variables["off_policy_left_out"] = left_out_lines(off_policy)
        if not off_policy["reason"]:
            variables["off_policy_weights"] = weights_line(off_policy)
    return variables

"""The files of the stage evaluate in ``reports/``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from catimage.common.formatting import format_json
from catimage.workspace import replacing


def write_reports(
    folder: Path,
    document: dict[str, Any],
    page: str,
    tables: Mapping[str, pd.DataFrame],
    svg_by_name: Mapping[str, str],
    off_policy: dict[str, Any] | None = None,
) -> None:
    """Write ``metrics.json``, ``plots/`` and ``report.html``, or none of them if an error occurs.

    Args:
        folder: the folder of the files.
        document: the content of ``metrics.json``.
        page: the content of ``report.html``.
        tables: the tables of ``plots/`` by name.
        svg_by_name: the figures of ``plots/`` by name.
        off_policy: the content of ``off_policy.json``; None if it is not written.
    """
    with ExitStack() as stack:
        metrics_file, plots_folder, report_file = (
            stack.enter_context(replacing(folder / name))
            for name in ("metrics.json", "plots", "report.html")
        )
        plots_folder.mkdir()
        for name, table in tables.items():
            table.to_csv(plots_folder / f"{name}.csv", index=False)
        for name, svg in svg_by_name.items():
            (plots_folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        metrics_file.write_text(format_json(document), encoding="utf-8")
        report_file.write_text(page, encoding="utf-8")
        if off_policy is not None:
            new = stack.enter_context(replacing(folder / "off_policy.json"))
            new.write_text(format_json(off_policy), encoding="utf-8")

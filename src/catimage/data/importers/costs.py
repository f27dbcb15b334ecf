"""Files of costs, with the columns ``candidate, cost, unit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from catimage.common.units import ANY_UNIT, COST_UNITS
from catimage.data.importers.columns import parse_names, parse_numbers, parse_texts, repeated
from catimage.data.importers.imported_file import check_unique
from catimage.data.importers.tables import read_user_table
from catimage.data.importers.text_table import TextTable, first_positions
from catimage.errors import InputError, nearest

SYNONYMS = {
    **dict.fromkeys(("s", "sec", "second"), "seconds"),
    **dict.fromkeys(("tflop", "teraflops"), "tflops"),
    **dict.fromkeys(("$", "dollar", "dollars"), "usd"),
}
"""Other spellings of units, in lower case."""


def parse_costs(path: Path) -> pd.DataFrame:
    """Read a csv, tsv, jsonl, json or parquet file of costs.

    Returns:
        The columns ``candidate, cost, unit``. Without a column ``unit``, the unit is ``unit``.

    Raises:
        InputError: the file cannot be read, a cost is negative or not a finite number, a name is
            empty, a unit is unknown, or a candidate has two costs in one unit.
    """
    rows = read_user_table(path)
    rows.require("candidate", "cost")
    costs = pd.DataFrame(
        {
            "candidate": parse_names(rows, "candidate", slashes=True),
            "cost": parse_numbers(rows, "cost", "a finite number, zero or more", minimum=0),
        }
    )
    costs["unit"] = _parse_units(rows) if "unit" in rows.names else ANY_UNIT
    check_unique(path, costs, ["candidate", "unit"], rows.row_numbers)
    return costs


def _parse_units(rows: TextTable) -> Any:
    """Return the unit of each row, (n_rows,)."""
    codes, texts = parse_texts(rows, "unit")
    allowed = (*COST_UNITS, ANY_UNIT)
    units = [SYNONYMS.get(text.lower(), text.lower()) for text in texts]
    for unit, text, i in zip(units, texts, first_positions(codes), strict=True):
        if unit not in allowed:
            raise InputError(
                f"{rows.message_prefix(i)}: the unit {text[:40]!r} is"
                f" unknown{nearest(unit, allowed)}. Use one of {', '.join(COST_UNITS)}, or"
                f" {ANY_UNIT!r} for any other unit."
            )
    return repeated(units, codes)

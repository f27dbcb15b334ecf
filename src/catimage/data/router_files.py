"""The tables and the document in the folder of a router, ``models/router/`` in a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catimage.common.files import read_json
from catimage.common.saved_format import check_format
from catimage.data.schema import read_columns
from catimage.errors import InputError

FORMAT = 4
"""Version of the file format of the folder."""


def read_router_files(
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """Read ``router.json`` and the columns of ``curve.parquet`` and ``certified.parquet``.

    Raises:
        InputError: there is no router, it is damaged, or another version wrote it.
    """
    if not (folder / "router.json").exists():
        raise InputError(f"{folder}: no router found. Run 'catimage calibrate'.")
    document = read_json(folder / "router.json", "calibrate")
    check_format(folder, "router", document.get("format"), FORMAT)
    curve = read_columns(folder / "curve.parquet", "calibrate")
    if document["confidence"] is None:
        return document, curve, None
    return document, curve, read_columns(folder / "certified.parquet", "calibrate")

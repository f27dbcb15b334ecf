"""Costs, ``params.yaml`` and checks of the commands ``import-scores`` and ``import-images``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from catimage.common.units import ANY_UNIT
from catimage.data.importers.costs import parse_costs
from catimage.data.importers.imported_file import ImportedFile
from catimage.data.prompts.identity import splits_of
from catimage.errors import InputError, nearest
from catimage.params import Params, apply_setting, read_tree
from catimage.workspace import Workspace


def costs_for(
    file: ImportedFile, path: Path | None, parsed: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table ``candidate, cost, unit`` of the candidates of an imported file.

    Args:
        file: the imported scores or images.
        path: a file of costs. Without one, every candidate costs 1 in the unit ``unit``.
        parsed: the content of the file of costs, if it has been read.

    Raises:
        InputError: the costs are invalid (:func:`catimage.data.importers.costs.parse_costs`), or
            the two files do not have the same candidates.
    """
    if path is None:
        return pd.DataFrame({"candidate": file.candidates, "cost": 1.0, "unit": ANY_UNIT})
    costs = parse_costs(path) if parsed is None else parsed
    file.check_candidates(list(costs["candidate"].unique()), str(path))
    for name in costs["candidate"]:
        if name not in file.candidates:
            raise InputError(
                f"{path}: candidate {name!r} is not in"
                f" {file.path}{nearest(name, file.candidates)}. Remove or rename it."
            )
    return costs


def prompts_table(file: ImportedFile, gate_share: float) -> pd.DataFrame:
    """Return the prompts of an imported file in the schema ``PROMPTS``.

    Args:
        file: the imported scores or images.
        gate_share: the share of the prompts in the split ``gate``.
    """
    return file.prompts.assign(split=splits_of(file.prompts["prompt"], gate_share))


def check_replaceable(
    workspace: Workspace, tables: Mapping[Path, tuple[pd.DataFrame, pa.Schema]], replace: bool
) -> None:
    """Check that an import does not replace data by mistake.

    Data are replaced without ``replace`` if nothing has been computed from them: they were imported
    and no estimator or router has been trained. Importing the same data again replaces nothing.

    Args:
        workspace: the workspace.
        tables: by path of a table, its new rows and their schema.
        replace: whether the user has given ``--replace``.

    Raises:
        InputError: the import would replace the data of a trained workspace, or data that were not
            imported.
    """
    reason = "" if replace else protection(workspace)
    for path, (frame, schema) in tables.items():
        if reason and path.exists() and not _is_equal(path, frame, schema):
            raise replacement_error(path, reason)


def protection(workspace: Workspace) -> str:
    """Return why the data of a workspace must not be replaced by mistake; empty if they may be."""
    if workspace.estimators.exists() or workspace.router.exists():
        return "estimators have been trained on them"
    tables = (workspace.prompts, workspace.scores)
    generated = any(path.exists() for path in tables) and "import" not in read_tree(
        workspace.params
    )
    return "they were not imported" if generated else ""


def replacement_error(path: Path, reason: str) -> InputError:
    """Return the error about data that an import would replace."""
    return InputError(
        f"{path}: the import would replace these data, and {reason}. Import into another workspace,"
        " or add --replace."
    )


def _is_equal(path: Path, frame: pd.DataFrame, schema: pa.Schema) -> bool:
    """Return whether a parquet file has the same rows as a frame, apart from their ``source``."""
    try:
        stored = pq.read_table(path)
    except (pa.ArrowException, OSError):
        return False
    if not stored.schema.equals(schema):
        return False
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    names = [name for name in schema.names if name != "source"]
    return bool(stored.select(names).equals(table.select(names)))


def requested_value(path: Path, settings: list[str], key: str) -> str | None:
    """Return the text that the settings, or else ``params.yaml``, give to a key, or None.

    Args:
        path: the file ``params.yaml`` of the workspace, which need not exist.
        settings: settings ``key=value``.
        key: a key that is not in a section.

    Raises:
        InputError: the file or a setting is not YAML.
    """
    tree = read_tree(path)
    for setting in settings:
        apply_setting(tree, setting)
    value = tree.get(key)
    return str(value) if isinstance(value, str) else None


def candidates_table(costs: pd.DataFrame) -> pd.DataFrame:
    """Return rows of the candidates table, with one generator per candidate and 0 steps."""
    return costs.assign(generator=costs["candidate"], steps=0)


def check_cost_unit(
    params: Params, file: ImportedFile, costs: pd.DataFrame, path: Path | None
) -> None:
    """Check that every candidate has a cost in the unit ``params.cost_unit``.

    Args:
        params: the parameters of the workspace.
        file: the imported scores or images.
        costs: the result of :func:`costs_for`.
        path: the costs file, if there is one.

    Raises:
        InputError: a candidate has no cost in that unit; the message names the first such
            candidate, or the available units if no candidate has one.
    """
    with_cost = list(costs.loc[costs["unit"] == params.cost_unit, "candidate"])
    units = sorted(costs["unit"].unique())
    if not with_cost:
        fix = f"Set cost_unit to one of {', '.join(units)}" if path else "Give --costs COSTS.csv"
        raise InputError(
            f"{path or file.path}: no cost in the unit"
            f" {params.cost_unit!r}{nearest(params.cost_unit, units)}. {fix}."
        )
    file.check_candidates(with_cost, f"the rows of {path} with a cost in {params.cost_unit!r}")


def import_params(
    path: Path,
    kind: Literal["scores", "images"],
    possible_values: Mapping[str, tuple[list[str], Path]],
    has_costs: bool,
    settings: list[str],
) -> dict[str, Any]:
    """Return the new content of ``params.yaml``, not yet validated.

    Settings take precedence over the existing file, which takes precedence over the imported files.

    Args:
        path: the file ``params.yaml`` of the workspace, which need not exist.
        kind: the kind of the import.
        possible_values: for the keys ``metric`` and ``cost_unit``, the possible values and the file
            that contains them.
        has_costs: whether the user has given costs.
        settings: settings ``key=value``.

    Raises:
        InputError: a key has several possible values and is set neither in the workspace nor in
            ``settings``, or a setting is invalid.
    """
    tree = read_tree(path)
    settings_tree: dict[str, Any] = {}
    for setting in settings:
        apply_setting(settings_tree, setting)
    for key, (values, source) in possible_values.items():
        if key not in settings_tree:
            tree[key] = _single_value(key, values, tree.get(key), source)
    if not has_costs:
        tree["budget"] = "100%"
    if "import" not in tree:
        apply_setting(tree, "train.estimators=[ridge]")
    previous = tree.get("import") or {}
    tree["import"] = previous if previous.get("kind", "scores") == kind else {"kind": kind}
    for setting in settings:
        apply_setting(tree, setting)
    return tree


def _single_value(key: str, values: list[str], previous: Any, source: Path) -> str:
    """Return the previous value of the workspace if it is possible, otherwise the only value."""
    if previous in values:
        return str(previous)
    if len(values) > 1:
        raise InputError(
            f"{source}: several values are possible for {key} ({', '.join(values)}). Choose one"
            f" with --set {key}={values[0]}."
        )
    return values[0]

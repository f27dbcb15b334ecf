"""Costs and ``params.yaml`` of the commands ``import-scores`` and ``import-images``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from catimage.data.importers.imported_file import ImportedFile
from catimage.data.importers.scores import parse_costs
from catimage.data.prompts.identity import splits_of
from catimage.errors import InputError, nearest
from catimage.params import Params, apply_setting, read_tree

DEFAULT_UNIT = "unit"
"""The cost unit of a workspace without a costs file, in which every candidate costs 1."""


def costs_for(file: ImportedFile, path: Path | None) -> pd.DataFrame:
    """Return a table ``candidate, cost, unit`` of the candidates of an imported file.

    Args:
        file: the imported scores or images.
        path: a CSV file of costs. Without one, every candidate costs 1.

    Raises:
        InputError: the costs are invalid (:func:`catimage.data.importers.scores.parse_costs`), or
            the two files do not have the same candidates.
    """
    if path is None:
        return pd.DataFrame({"candidate": file.candidates, "cost": 1.0, "unit": DEFAULT_UNIT})
    costs = parse_costs(path)
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

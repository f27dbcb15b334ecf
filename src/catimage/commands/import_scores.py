"""``import-scores``: a workspace that starts from scores that somebody already has, with no prompts
to sample and no images to make.

What ``import-images`` does in the same way is here too: costs, and ``params.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from catimage.data.importers.imported_file import ImportedFile
from catimage.data.importers.scores import ScoresFile, parse_scores, parse_costs
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.errors import InputError, nearest
from catimage.params import Params, apply_setting, parse_params, read_tree, save_params
from catimage.workspace import Workspace, replacing

NO_UNIT = "unit"
"""The unit in which every candidate costs 1 where no costs are given."""


def run(workspace: Workspace, scores: Path, costs: Path | None, settings: list[str]) -> None:
    """Writes the prompts, candidates and scores tables and ``params.yaml``; everything is checked
    before anything is written.

    Raises:
        InputError: see :mod:`catimage.data.importers.scores`; a candidate without a cost, or a cost
            without scores; a metric or unit that is to be chosen, or is not there; a bad setting.
    """
    file = parse_scores(scores)
    prices = prices_of(file, costs)
    offered = {
        "metric": (file.metrics, scores),
        "cost_unit": (sorted(prices["unit"].unique()), costs or scores),
    }
    tree = parameters(workspace.params, "scores", offered, costs, settings)
    params = parse_params(tree, workspace.params)
    check_unit(params, file, prices, costs)
    _check_metrics(params, file)
    _write(workspace, file, prices, tree)
    what = (
        f"{len(file.prompts):,} prompts, {len(file.candidates)} candidates, {len(file.scores):,}"
        f" scores ({', '.join(file.metrics)})"
    )
    print(f"imported into {workspace.root}: {what}", flush=True)


def prices_of(file: ImportedFile, costs: Path | None) -> pd.DataFrame:
    """``candidate, cost, unit`` of the file's candidates; without ``costs`` each costs 1.

    Raises:
        InputError: see :func:`catimage.data.importers.scores.parse_costs`; a candidate without a
            cost, or one that is in ``costs`` alone.
    """
    if costs is None:
        return pd.DataFrame({"candidate": file.candidates, "cost": 1.0, "unit": NO_UNIT})
    prices = parse_costs(costs)
    file.check_candidates(list(prices["candidate"].unique()), str(costs))
    for name in prices["candidate"]:
        if name not in file.candidates:
            raise InputError(
                f"{costs}: candidate {name!r} is not in"
                f" {file.path}{nearest(name, file.candidates)}: remove or rename it."
            )
    return prices


def parameters(
    path: Path,
    kind: Literal["scores", "images"],
    offered: Mapping[str, tuple[list[str], Path]],
    costs: Path | None,
    settings: list[str],
) -> dict[str, Any]:
    """What ``params.yaml`` will say: what it says already, then what the files say, then
    ``settings``.

    Args:
        offered: by key, the values that there are and the file that has them.

    Raises:
        InputError: there are several, none of which the workspace or ``settings`` say; or
            ``settings`` are wrong.
    """
    tree = read_tree(path)
    said: dict[str, Any] = {}
    for setting in settings:
        apply_setting(said, setting)
    for key, (names, where) in offered.items():
        if key not in said:
            tree[key] = _the_one(names, tree.get(key), key, where)
    if not costs:
        tree["budget"] = "100%"
    if "import" not in tree:
        apply_setting(tree, "train.estimators=[ridge]")
    before = tree.get("import") or {}
    tree["import"] = before if before.get("kind", "scores") == kind else {"kind": kind}
    for setting in settings:
        apply_setting(tree, setting)
    return tree


def _the_one(names: list[str], before: Any, key: str, where: Path) -> str:
    """The only name there is, or the one that the workspace already said."""
    if len(names) > 1 and before not in names:
        choices = ", ".join(names)
        raise InputError(
            f"{where} leaves the {key} open ({choices}): say which one to route on, as in --set"
            f" {key}={names[0]}."
        )
    return str(before) if before in names else names[0]


def check_unit(
    params: Params, file: ImportedFile, prices: pd.DataFrame, costs: Path | None
) -> None:
    """Every candidate has a cost in ``params.cost_unit``.

    Raises:
        InputError: naming the unit, or the first candidate that has none.
    """
    priced = list(prices.loc[prices["unit"] == params.cost_unit, "candidate"])
    units = sorted(prices["unit"].unique())
    if not priced:
        mend = f"it has {', '.join(units)}" if costs else "give --costs COSTS.csv"
        raise InputError(
            f"{costs or file.path} has no cost in the unit"
            f" {params.cost_unit!r}{nearest(params.cost_unit, units)}: {mend}."
        )
    file.check_candidates(priced, f"{costs} with a cost in {params.cost_unit!r}")


def _check_metrics(params: Params, file: ScoresFile) -> None:
    for metric in (
        *params.trained_metrics,
        *(params.imported.lower_is_better if params.imported else ()),
    ):
        file.only(metric)
    if params.validation.complete_labels:
        file.check_complete(file.metrics, file.candidates)


def candidates_table(prices: pd.DataFrame) -> pd.DataFrame:
    """Imported candidates: each a generator of its own, of no steps that we know."""
    return prices.assign(generator=prices["candidate"], steps=0)


def _write(
    workspace: Workspace, file: ScoresFile, prices: pd.DataFrame, tree: dict[str, Any]
) -> None:
    """All four files, or, where one cannot be written, none."""
    with ExitStack() as stack:
        write_table(file.prompts, stack.enter_context(replacing(workspace.prompts)), PROMPTS)
        write_table(
            candidates_table(prices),
            stack.enter_context(replacing(workspace.candidates)),
            CANDIDATES,
        )
        write_table(file.scores, stack.enter_context(replacing(workspace.scores)), SCORES)
        save_params(tree, stack.enter_context(replacing(workspace.params)))
    (workspace.reports / "validation.json").unlink(missing_ok=True)  # it was about other data

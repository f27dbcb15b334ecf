"""The suites of Great Expectations that gate the data, in Python; :func:`export` writes them as the
JSON in ``expectations/``.

There is a suite for each frame of :mod:`catimage.validation.frames` and each kind of data:
``generated`` by the pool; ``images`` that were imported, which promise no similarity threshold, no
steps and no seeds of ours; or ``imported`` scores, which do not promise our metrics and their
ranges either. What differs from workspace to workspace is a ``$PARAMETER``.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any, Literal

import great_expectations.expectations as gxe
import pyarrow as pa
from great_expectations import ExpectationSuite
from great_expectations.expectations.expectation import Expectation

from catimage.data.prompts.cleaning import TOO_LONG
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, SPLITS
from catimage.errors import InputError
from catimage.workspace import replacing

Kind = Literal["generated", "images", "imported"]
KINDS: tuple[Kind, ...] = ("generated", "images", "imported")
SPREAD = 1e-6
"""A metric whose scores are all equal, rounding aside, tells no image from another."""
LARGEST = sys.float_info.max
TYPES = {pa.string(): "str", pa.int64(): "int64", pa.float64(): "float64"}


def suites(kind: Kind) -> dict[str, ExpectationSuite]:
    """The suites of a kind of data, by the name of the frame that each is for."""
    made = {
        "prompts": _prompts(),
        "splits": [gxe.ExpectTableRowCountToEqual(value=len(SPLITS)), _between("prompts", 1)],
        "candidates": _candidates(kind),
        "scores": _scores(kind),
        "metrics": [_between("spread", SPREAD), _between("better_than_reference", 0, 0)],
        "labels": [
            _at_least("candidates", "candidates_needed"),
            _at_least("scores", "scores_needed"),
        ],
    }
    if kind == "generated":
        made["similarity"] = [
            _not_null("max_similarity"),
            _between("max_similarity", -2, {"$PARAMETER": "max_similarity"}),
        ]
    return {
        frame: ExpectationSuite(name=f"{kind}_{frame}", expectations=rules)
        for frame, rules in made.items()
    }


def _prompts() -> list[Expectation]:
    return [
        *_schema(PROMPTS, ["id_of_text", "split_of_id", "splits_of_text"]),
        gxe.ExpectColumnValuesToBeUnique(column="prompt_id"),
        gxe.ExpectColumnValuesToBeUnique(column="prompt"),
        gxe.ExpectColumnValueLengthsToBeBetween(
            column="prompt", min_value=1, max_value=TOO_LONG - 1
        ),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="prompt_id", column_B="id_of_text"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="split", column_B="split_of_id"),
        _between("splits_of_text", 1, 1),
    ]


def _candidates(kind: Kind) -> list[Expectation]:
    return [
        *_schema(CANDIDATES, ["costs_in_routed_unit"]),
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["candidate", "unit"]),
        gxe.ExpectColumnValueLengthsToBeBetween(column="candidate", min_value=1),
        _between("cost", 0, LARGEST),
        _between("steps", 1 if kind == "generated" else 0),
        _between("costs_in_routed_unit", 1, 1),
    ]


def _scores(kind: Kind) -> list[Expectation]:
    seeds = gxe.ExpectColumnValuesToBeInSet(column="seed", value_set={"$PARAMETER": "seeds"})
    ours = [
        gxe.ExpectColumnValuesToBeInSet(column="metric", value_set={"$PARAMETER": "metrics"}),
        *([seeds] if kind == "generated" else []),
        _at_least("value", "lowest"),
        _at_least("highest", "value"),
    ]
    return [
        *_schema(SCORES, ["split", "lowest", "highest", "versions_of_metric"]),
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["prompt_id", "candidate", "seed", "metric"]
        ),
        gxe.ExpectColumnValuesToBeInSet(column="candidate", value_set={"$PARAMETER": "candidates"}),
        _not_null("split"),
        _between("value", -LARGEST, LARGEST),
        _between("versions_of_metric", 1, 1),
        *(ours if kind != "imported" else []),
    ]


def _schema(schema: pa.Schema, joined: list[str]) -> list[Expectation]:
    """The table's columns and then the ``joined`` ones, the table's types, and no nulls in them."""
    types = [
        gxe.ExpectColumnValuesToBeOfType(column=field.name, type_=TYPES[field.type])
        for field in schema
    ]
    columns = gxe.ExpectTableColumnsToMatchOrderedList(column_list=[*schema.names, *joined])
    return [columns, *types, *(_not_null(name) for name in schema.names)]


def _not_null(column: str) -> Expectation:
    return gxe.ExpectColumnValuesToNotBeNull(column=column)


def _between(column: str, low: float, high: Any = None) -> Expectation:
    return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)


def _at_least(column: str, other: str) -> Expectation:
    return gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A=column, column_B=other, or_equal=True, ignore_row_if="either_value_is_missing"
    )


def export(folder: Path) -> None:
    """Writes every suite to ``folder/<suite>.json``, with identifiers that depend on what a rule
    says alone.
    """
    with replacing(folder) as fresh:
        fresh.mkdir()
        for kind in KINDS:
            for suite in suites(kind).values():
                (fresh / f"{suite.name}.json").write_text(json.dumps(_tree(suite), indent=2) + "\n")


def _tree(suite: ExpectationSuite) -> dict[str, Any]:
    rules = [
        {k: v for k, v in rule.items() if k in ("type", "kwargs", "severity")}
        for rule in suite.to_json_dict()["expectations"]
    ]
    for rule in rules:
        rule["id"] = _identifier(f"{suite.name} {json.dumps(rule, sort_keys=True)}")
    return {"name": suite.name, "id": _identifier(suite.name), "expectations": rules, "meta": {}}


def _identifier(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def load(folder: Path, kind: Kind) -> dict[str, ExpectationSuite]:
    """The suites as a workspace's JSON files have them, which may say more than ours.

    Raises:
        InputError: a file is missing or not JSON, or a rule in it is not one (Great Expectations
            would leave such a rule out silently).
    """
    return {frame: _load(folder / f"{suite.name}.json") for frame, suite in suites(kind).items()}


def _load(path: Path) -> ExpectationSuite:
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        rules = tree["expectations"]
        strange = {rule["type"] for rule in rules} - set(
            list_registered_expectation_implementations()
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read as a suite ({error}): write it anew with 'python -m"
            " catimage.validation.suites'."
        ) from error
    if strange:
        raise InputError(
            f"{path}: Great Expectations has no rule named {', '.join(sorted(strange))}: correct or"
            " remove it."
        )
    suite = ExpectationSuite(name=tree["name"], expectations=rules)
    if len(suite.expectations) != len(rules):
        raise InputError(
            f"{path}: {len(rules) - len(suite.expectations)} of its rules are not valid: correct or"
            " remove them."
        )
    return suite


if __name__ == "__main__":
    export(Path("expectations") / "suites")

"""The expectation suites, in Python; :func:`export` writes them to ``expectations/`` as JSON.

There is one suite per frame of :mod:`catimage.validation.frames` and kind of data. Data of the kind
``generated`` come from the pool. For imported images (``images``), the similarity of prompts and
the seeds are not checked, and the number of steps may be 0. For imported scores (``imported``), the
names and ranges of the metrics are not checked either. Values that differ between workspaces are
``$PARAMETER`` placeholders.
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
SUITE_KINDS: tuple[Kind, ...] = ("generated", "images", "imported")
MIN_SPREAD = 1e-6
"""The smallest relative spread of a metric's scores; a smaller spread is due to rounding."""
MAX_FLOAT = sys.float_info.max
TYPES = {pa.string(): "str", pa.int64(): "int64", pa.float64(): "float64"}
"""The pandas type of each Arrow type in the schemas."""


def suites(kind: Kind) -> dict[str, ExpectationSuite]:
    """Return the suites of a kind of data, by the names of their frames."""
    expectations_of: dict[str, list[Expectation]] = {
        "prompts": _prompts(),
        "splits": [
            gxe.ExpectTableRowCountToEqual(value=len(SPLITS)),
            _at_least("prompts", "prompts_needed"),
        ],
        "candidates": _candidates(kind),
        "scores": _scores(kind),
        "metrics": [_between("spread", MIN_SPREAD), _between("better_than_reference", 0, 0)],
        "labels": [
            _at_least("candidates", "candidates_needed"),
            _at_least("scores", "scores_needed"),
        ],
    }
    expectations_of["history"] = [
        _between("shift", 0, {"$PARAMETER": "max_shift"}),
        _between("decline", 0, {"$PARAMETER": "max_decline"}),
    ]
    if kind != "imported":
        expectations_of["images"] = [
            _between(share, 0, {"$PARAMETER": "max_blank_share"})
            for share in ("blank_share", "repeated_share")
        ]
    if kind == "generated":
        expectations_of["similarity"] = [
            _not_null("max_similarity"),
            _between("max_similarity", -2, {"$PARAMETER": "max_similarity"}),
        ]
    return {
        frame: ExpectationSuite(name=f"{kind}_{frame}", expectations=expectations)
        for frame, expectations in expectations_of.items()
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
        _between("cost", 0, MAX_FLOAT),
        _between("steps", 1 if kind == "generated" else 0),
        _between("costs_in_routed_unit", 1, 1),
    ]


def _scores(kind: Kind) -> list[Expectation]:
    seeds = gxe.ExpectColumnValuesToBeInSet(column="seed", value_set={"$PARAMETER": "seeds"})
    declared = [
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
        _between("value", -MAX_FLOAT, MAX_FLOAT),
        _between("versions_of_metric", 1, 1),
        *(declared if kind != "imported" else []),
    ]


def _schema(schema: pa.Schema, added: list[str]) -> list[Expectation]:
    """Expect the columns of a schema and then ``added``, the types of the schema, and no nulls."""
    types = [
        gxe.ExpectColumnValuesToBeOfType(column=field.name, type_=TYPES[field.type])
        for field in schema
    ]
    columns = gxe.ExpectTableColumnsToMatchOrderedList(column_list=[*schema.names, *added])
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
    """Write every suite to ``folder/<suite>.json``. Ids of expectations are content hashes."""
    with replacing(folder) as fresh:
        fresh.mkdir()
        for kind in SUITE_KINDS:
            for suite in suites(kind).values():
                (fresh / f"{suite.name}.json").write_text(json.dumps(_tree(suite), indent=2) + "\n")


def _tree(suite: ExpectationSuite) -> dict[str, Any]:
    expectations = [
        {k: v for k, v in expectation.items() if k in ("type", "kwargs", "severity")}
        for expectation in suite.to_json_dict()["expectations"]
    ]
    for expectation in expectations:
        content = json.dumps(expectation, sort_keys=True)
        expectation["id"] = _identifier(f"{suite.name} {content}")
    return {
        "name": suite.name,
        "id": _identifier(suite.name),
        "expectations": expectations,
        "meta": {},
    }


def _identifier(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def load(folder: Path, kind: Kind) -> dict[str, ExpectationSuite]:
    """Read the suites of a workspace from JSON files, to which expectations may have been added.

    Raises:
        InputError: a file is missing or not JSON, or an expectation is unknown or invalid (Great
            Expectations would ignore it).
    """
    return {frame: _load(folder / f"{suite.name}.json") for frame, suite in suites(kind).items()}


def _load(path: Path) -> ExpectationSuite:
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        expectations = tree["expectations"]
        unknown = {expectation["type"] for expectation in expectations} - set(
            list_registered_expectation_implementations()
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a valid suite{_position(error)}. Write it again with 'python -m"
            " catimage.validation.suites'."
        ) from error
    if unknown:
        raise InputError(
            f"{path}: unknown expectation {', '.join(sorted(unknown))}. Correct or remove it."
        )
    suite = ExpectationSuite(name=tree["name"], expectations=expectations)
    if len(suite.expectations) != len(expectations):
        raise InputError(
            f"{path}: {len(expectations) - len(suite.expectations)} expectations are invalid."
            " Correct or remove them."
        )
    return suite


def _position(error: Exception) -> str:
    """Return the place of a syntax error in a JSON file, or an empty string."""
    if isinstance(error, json.JSONDecodeError):
        return f" (a syntax error in line {error.lineno})"
    return ""


if __name__ == "__main__":
    export(Path("expectations") / "suites")

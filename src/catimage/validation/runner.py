"""Runs suites over frames in Great Expectations, in memory, and leaves its Data Docs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.expectation_validation_result import (
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
)
from great_expectations.data_context import EphemeralDataContext
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.exceptions import GreatExpectationsError

from catimage.errors import InputError
from catimage.validation.frames import KEYS
from catimage.workspace import replacing

SHOWN = 3
"""Rows named of each failed expectation."""


@dataclass(frozen=True)
class Outcome:
    """``evaluated`` and ``successful`` expectations by suite, and in words each that failed and on
    which rows.
    """

    evaluated: dict[str, int]
    successful: dict[str, int]
    failures: list[str]


def run(
    suites: dict[str, gx.ExpectationSuite],
    frames: dict[str, pd.DataFrame],
    parameters: dict[str, Any],
    docs: Path,
) -> Outcome:
    """Holds each frame against the suite of its name; Data Docs (HTML) replace the folder ``docs``,
    whatever the outcome.

    Raises:
        InputError: a suite asks for a parameter that is not there.
    """
    outcome = Outcome({}, {}, [])
    with replacing(docs) as fresh, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = _context(fresh)
        source = context.data_sources.add_pandas("workspace")
        for name, suite in suites.items():
            data = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
            definition = gx.ValidationDefinition(
                name=suite.name, data=data, suite=context.suites.add(suite)
            )
            result = _validated(
                context.validation_definitions.add(definition), frames[name], KEYS[name], parameters
            )
            outcome.evaluated[suite.name] = len(result.results)
            outcome.successful[suite.name] = sum(bool(r.success) for r in result.results)
            outcome.failures.extend(
                f"{suite.name}: {_words(r)}" for r in result.results if not r.success
            )
        context.build_data_docs()
    return outcome


def _context(docs: Path) -> EphemeralDataContext:
    """A context that keeps nothing but its docs, and neither reports to anybody nor shows bars."""
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())}
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": backend,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={"local_site": site},
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _validated(
    definition: gx.ValidationDefinition,
    frame: pd.DataFrame,
    keys: list[str],
    parameters: dict[str, Any],
) -> ExpectationSuiteValidationResult:
    shown = {  # only the complete format names the rows in the Data Docs
        "result_format": "COMPLETE",
        "unexpected_index_column_names": keys,
        "partial_unexpected_count": SHOWN,
        "return_unexpected_index_query": False,
    }
    try:
        return definition.run(
            batch_parameters={"dataframe": frame},
            expectation_parameters=parameters,
            result_format=shown,
        )
    except GreatExpectationsError as error:
        raise InputError(
            f"suite {definition.name} cannot be run ({error}): its parameters are"
            f" {', '.join(parameters)}."
        ) from error


def _words(result: ExpectationValidationResult) -> str:
    """``expect_x(column) on 3 rows, such as prompt_id=..., candidate=...``."""
    rule = result.expectation_config
    columns = [v for k, v in rule.kwargs.items() if k.startswith("column")]
    name = f"{rule.type}({', '.join(', '.join(c) if isinstance(c, list) else c for c in columns)})"
    found = result.result
    if found.get("unexpected_count"):
        rows = found.get("partial_unexpected_index_list") or found.get(
            "partial_unexpected_list", []
        )
        such = "; ".join(
            ", ".join(f"{k}={v}" for k, v in row.items()) if isinstance(row, dict) else str(row)
            for row in rows
        )
        return f"{name} on {found['unexpected_count']:,} rows, such as {such}"
    if "observed_value" in found:
        return f"{name}, found {found['observed_value']}"
    return f"{name} could not be evaluated"

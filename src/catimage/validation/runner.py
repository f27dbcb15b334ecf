"""Runs suites on data frames with Great Expectations, and writes its HTML pages (Data Docs)."""

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

MAX_ROWS = 3
"""The number of rows that the message about a failed expectation lists."""


@dataclass(frozen=True)
class ValidationOutcome:
    """The result of running suites.

    Attributes:
        evaluated: the number of expectations of each suite.
        successful: the number of expectations of each suite that the data meet.
        failures: one message per failed expectation, with examples of rows.
    """

    evaluated: dict[str, int]
    successful: dict[str, int]
    failures: list[str]


def run(
    suites: dict[str, gx.ExpectationSuite],
    frames: dict[str, pd.DataFrame],
    parameters: dict[str, Any],
    docs: Path,
) -> ValidationOutcome:
    """Run each suite on the frame of the same name.

    Args:
        suites: the suites by the names of their frames.
        frames: the frames by name (:func:`catimage.validation.frames.frames`).
        parameters: values of the ``$PARAMETER`` placeholders of the suites.
        docs: the folder of the Data Docs (HTML), which is replaced whether or not an expectation
            fails.

    Raises:
        InputError: a suite has a placeholder that is not in ``parameters``.
    """
    outcome = ValidationOutcome({}, {}, [])
    with replacing(docs) as fresh, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = _context(fresh)
        source = context.data_sources.add_pandas("workspace")
        for name, suite in suites.items():
            data = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(name=suite.name, data=data, suite=context.suites.add(suite))
            )
            result = _validate(definition, frames[name], KEYS[name], parameters)
            outcome.evaluated[suite.name] = len(result.results)
            outcome.successful[suite.name] = sum(bool(r.success) for r in result.results)
            outcome.failures.extend(
                f"{suite.name}: {_message(r)}" for r in result.results if not r.success
            )
        context.build_data_docs()
    return outcome


def _context(docs: Path) -> EphemeralDataContext:
    """Return a context in memory that writes Data Docs to the folder ``docs``.

    It sends no usage statistics and shows no progress bars.
    """
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


def _validate(
    definition: gx.ValidationDefinition,
    frame: pd.DataFrame,
    keys: list[str],
    parameters: dict[str, Any],
) -> ExpectationSuiteValidationResult:
    result_format = {
        "result_format": "COMPLETE",  # the only format whose Data Docs list rows
        "unexpected_index_column_names": keys,
        "partial_unexpected_count": MAX_ROWS,
        "return_unexpected_index_query": False,
    }
    try:
        return definition.run(
            batch_parameters={"dataframe": frame},
            expectation_parameters=parameters,
            result_format=result_format,
        )
    except GreatExpectationsError as error:
        raise InputError(
            f"suite {definition.name}: cannot be run ({error}). Use only the parameters"
            f" {', '.join(parameters)}."
        ) from error


def _message(result: ExpectationValidationResult) -> str:
    """Return a message such as ``expect_x(column) on 3 rows, such as prompt_id=..., seed=...``."""
    rule = result.expectation_config
    columns = [value for key, value in rule.kwargs.items() if key.startswith("column")]
    arguments = ", ".join(", ".join(c) if isinstance(c, list) else c for c in columns)
    name, details = f"{rule.type}({arguments})", result.result
    if details.get("unexpected_count"):
        rows = details.get("partial_unexpected_index_list") or details.get(
            "partial_unexpected_list", []
        )
        examples = "; ".join(
            ", ".join(f"{key}={value}" for key, value in row.items())
            if isinstance(row, dict)
            else str(row)
            for row in rows
        )
        return f"{name} on {details['unexpected_count']:,} rows, such as {examples}"
    if "observed_value" in details:
        return f"{name}, found {details['observed_value']}"
    return f"{name} could not be evaluated"

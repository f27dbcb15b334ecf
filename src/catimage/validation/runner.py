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
from catimage.validation.failures import FailedExpectation
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
        failures: the failed expectations, with examples of rows.
    """

    evaluated: dict[str, int]
    successful: dict[str, int]
    failures: list[FailedExpectation]


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
                failed_expectation(name, r) for r in result.results if not r.success
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
            f"expectations/suites/{definition.name}.json: an expectation has an unknown $PARAMETER."
            f" Use only the parameters {', '.join(parameters)}."
        ) from error


def failed_expectation(frame: str, result: ExpectationValidationResult) -> FailedExpectation:
    """Return the columns and rows of a failed expectation.

    Args:
        frame: the name of the frame.
        result: the result of the expectation.
    """
    expectation, details = result.expectation_config, result.result
    columns = [value for key, value in expectation.kwargs.items() if key.startswith("column")]
    names = [name for value in columns for name in ([value] if isinstance(value, str) else value)]
    rows = details.get("partial_unexpected_index_list") or []
    return FailedExpectation(
        frame=frame,
        expectation=expectation.type.removeprefix("expect_"),
        columns=names if expectation.type != "expect_table_columns_to_match_ordered_list" else (),
        count=details.get("unexpected_count") or 0,
        rows=[row for row in rows if isinstance(row, dict)],
        description=expectation.description,
    )

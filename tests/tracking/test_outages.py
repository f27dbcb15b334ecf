"""Which exceptions report an outage."""

from __future__ import annotations

import pytest
import requests
from botocore.exceptions import EndpointConnectionError
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE

from catimage.errors import InputError, OutageError
from catimage.params import load_params
from catimage.tracking import promotion
from catimage.tracking.outages import check_storage, is_outage
from catimage.tracking.promotion import decide
from catimage.workspace import Workspace
from tests.tracking.test_promotion import client_of


def caused(error: Exception, cause: Exception) -> Exception:
    error.__context__ = cause
    return error


OUTAGES = [
    OutageError("away"),
    requests.exceptions.RetryError("too many 503 error responses"),
    caused(MlflowException("request failed"), requests.exceptions.ConnectionError("refused")),
    caused(InputError("x"), caused(MlflowException("y"), requests.exceptions.ReadTimeout("z"))),
    MlflowException("database", error_code=TEMPORARILY_UNAVAILABLE),
    EndpointConnectionError(endpoint_url="http://127.0.0.1:9"),
    TimeoutError(),
]
OTHERS = [
    InputError("invalid"),
    MlflowException("no such model", error_code=RESOURCE_DOES_NOT_EXIST),
    requests.exceptions.HTTPError("403"),
    FileNotFoundError("mlruns"),
]


@pytest.mark.parametrize(("error", "expected"), [(e, True) for e in OUTAGES])
def test_an_outage_is_recognised_by_its_causes(error: Exception, expected: bool) -> None:
    assert is_outage(error) is expected


@pytest.mark.parametrize("error", OTHERS)
def test_other_errors_are_no_outage(error: Exception) -> None:
    assert not is_outage(error)


def test_storage_that_is_away_is_an_outage_and_files_that_are_lost_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MLflow reports the files as missing in both cases; the list of files shows the difference."""
    lost = MlflowException("Failed to download", error_code=RESOURCE_DOES_NOT_EXIST)
    monkeypatch.setattr("mlflow.artifacts.list_artifacts", lambda artifact_uri: [])
    check_storage("models:/router/1", lost)

    def away(artifact_uri: str) -> None:
        raise caused(MlflowException("failed"), requests.exceptions.ConnectionError("refused"))

    monkeypatch.setattr("mlflow.artifacts.list_artifacts", away)
    with pytest.raises(OutageError, match=r"the storage of models:/router/1 does not respond"):
        check_storage("models:/router/1", lost)


def test_an_outage_is_not_a_champion_that_cannot_be_read(
    registered: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision is not blocked, which would ask for a person; the task is retried."""

    def away(*_: object) -> None:
        raise OutageError("MLflow: the storage does not respond. Start it.")

    monkeypatch.setattr(promotion, "load_router", away)
    params = load_params(registered.params)
    with pytest.raises(OutageError):
        decide(client_of(registered), "2", None, registered, params)  # type: ignore[arg-type]

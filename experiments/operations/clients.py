"""Requests to the servers of Prefect and MLflow, and to the service."""

from __future__ import annotations

import time
from typing import Any

import httpx

from experiments.operations.timeline import StepError

FAILED = ("FAILED", "CRASHED", "CANCELLED")
"""The types of states of runs that have not completed."""


class PrefectClient:
    """Requests to a Prefect server."""

    def __init__(self, url: str) -> None:
        """Prepare requests to the API at an address."""
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def drift_run(self) -> dict[str, Any] | None:
        """Return the first run that an alarm of the monitor has started."""
        query = {"flow_runs": {"tags": {"all_": ["drift"]}}, "sort": "EXPECTED_START_TIME_ASC"}
        runs = self._post("/flow_runs/filter", query)
        return dict(runs[0]) if runs else None

    def finished(self, run: str) -> str | None:
        """Return the message of a run that has completed; None if it has not ended.

        Raises:
            StepError: the run has failed, crashed, or was cancelled.
        """
        state = self._http.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
        if state["type"] in FAILED:
            raise StepError(f"retrain: the run is {state['name']}: {state['message']}")
        return str(state["name"]) if state["type"] == "COMPLETED" else None

    def tasks(self, run: str) -> list[str]:
        """Return the names of the completed tasks of a run, in order."""
        query = {"flow_runs": {"id": {"any_": [run]}}, "sort": "END_TIME_DESC"}
        tasks = self._post("/task_runs/filter", query)
        return [task["name"] for task in reversed(tasks) if task["state_type"] == "COMPLETED"]

    def _post(self, path: str, content: object) -> Any:
        for _ in range(10):
            answer = self._http.post(path, json=content)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:  # the database is busy
                break
            time.sleep(0.5)
        return answer.raise_for_status().json()


class Registry:
    """Requests to MLflow about the registered model ``router``."""

    def __init__(self, url: str) -> None:
        """Prepare requests to the server at an address."""
        self._http = httpx.Client(base_url=f"{url}/api/2.0/mlflow", timeout=30, trust_env=False)

    def champion(self) -> str:
        """Return the version with the alias ``champion``; empty without one."""
        return self._version("champion")[0]

    def challenger(self) -> tuple[str, str]:
        """Return the version that was registered last, and the reason of the gate."""
        version, tags = self._version("challenger")
        return version, tags.get("gate", "")

    def _version(self, alias: str) -> tuple[str, dict[str, str]]:
        query = {"name": "router", "alias": alias}
        answer = self._http.get("/registered-models/alias", params=query)
        if not answer.is_success:
            return "", {}
        found = answer.json()["model_version"]
        return str(found["version"]), {t["key"]: t["value"] for t in found.get("tags", [])}


class Service:
    """Requests to the service about its router."""

    def __init__(self, url: str) -> None:
        """Prepare requests to the service at an address."""
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def version(self) -> str:
        """Return the version of the router that decides (``GET /v1/router``)."""
        return str(self._http.get("/v1/router").raise_for_status().json()["version"])

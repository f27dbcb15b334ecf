"""The steps of the demonstration, in order. Each has a time limit and prints its evidence."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from experiments.operations.clients import PrefectClient, Registry, Service
from experiments.operations.project import NEW_KINDS, TRAINED_KINDS, create_project
from experiments.operations.servers import Servers
from experiments.operations.sizes import Size
from experiments.operations.timeline import StepError, Timeline
from experiments.operations.traffic import Traffic

START_SECONDS, CHANGE_SECONDS, MONITOR_SECONDS = 120.0, 60.0, 480.0
"""Time limits: of the start of a server; of a change of the router in the service; and of the
monitor, until it has learnt the traffic, and until it raises an alarm."""


class Story:
    """The demonstration in a workspace."""

    def __init__(self, workspace: Path, size: Size, servers: Servers, timeline: Timeline) -> None:
        """Prepare the steps.

        Args:
            workspace: a folder that does not exist or is empty.
            size: the size.
            servers: the servers of the workspace.
            timeline: prints the steps.
        """
        self._workspace, self._size = workspace, size
        self._servers, self._timeline = servers, timeline
        self._prefect, self._registry = PrefectClient(servers.prefect), Registry(servers.mlflow)
        self._service = Service(servers.service)

    def run(self) -> None:
        """Run all steps.

        Raises:
            StepError: a step has failed, or did not happen within its time limit.
        """
        create_project(self._workspace, self._size)
        self._timeline.add("workspace", f"catimage init {self._workspace}")
        self._start_registry()
        first = self._train()
        self._start_service(first)
        speed = self._size.requests_per_second
        with Traffic(self._servers.service, speed, TRAINED_KINDS) as traffic:
            self._steady(traffic)
            second = self._drift(traffic, first)
            self._routed(traffic, first, second)
            self._roll_back(second, first)
        if traffic.errors:
            raise StepError(f"service: {len(traffic.errors)} requests failed: {traffic.errors[0]}")
        n = len(traffic.answers)
        self._timeline.add("service", f"answered all {n:,} requests; none failed")

    def _start_registry(self) -> None:
        self._servers.start_registry()
        for name, url in {"mlflow": self._servers.mlflow, "prefect": self._servers.prefect}.items():
            self._wait_for(name, f"{url}/health")
            self._timeline.add(name, f"the server responds at {url}")

    def _wait_for(self, name: str, url: str) -> None:
        self._timeline.wait(name, START_SECONDS, lambda: self._servers.responds(url))

    def _command(self, name: str, seconds: float, *arguments: str) -> str:
        """Run a command of Python; return its output.

        Raises:
            StepError: it fails, or takes too long.
        """
        process = self._servers.run(name, *arguments)
        status = self._timeline.wait(name, seconds, process.poll)
        log = self._servers.log(name)
        if status:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise StepError(f"{name}: exited with status {status}: {lines[-1:]}. See {log}")
        return log.read_text(errors="replace")

    def _train(self) -> str:
        """Train the first router; return its version."""
        limit = self._size.retrain_seconds
        self._command("retrain", limit, "-m", "catimage.flows.retrain")
        version, reason = self._registry.challenger()
        if self._registry.champion() != version:
            raise StepError(f"gate: the first router is not the champion: {reason}")
        n, trained_on = self._size.prompts, ", ".join(TRAINED_KINDS)
        self._timeline.add("retrain", f"trained a router on {n} captions of {trained_on} scenes")
        self._timeline.add("gate", f"router version {version} is the champion: {reason}")
        return version

    def _start_service(self, version: str) -> None:
        self._servers.start_service()
        self._command("setup", START_SECONDS, "-m", "catimage.flows.setup")
        self._servers.start_worker()
        every = self._size.interval
        self._timeline.add("prefect", f"deployments and worker; the monitor runs every {every} s")
        url = self._servers.service
        self._wait_for("service", f"{url}/readyz")
        self._timeline.wait("service", CHANGE_SECONDS, lambda: self._serves(version))
        self._timeline.add("service", f"serves router version {version} at {url}")

    def _serves(self, version: str) -> bool | None:
        return True if self._service.version() == version else None

    def _report(self) -> dict[str, Any]:
        """Return the last report of the monitor; empty before the first one."""
        path = self._workspace / "reports" / "monitor.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _steady(self, traffic: Traffic) -> None:
        """Wait until the monitor has learnt the steady traffic."""
        speed = f"{self._size.requests_per_second:g} requests per second"
        self._timeline.add("traffic", f"{speed}: {', '.join(TRAINED_KINDS)} scenes")
        what = "monitor: its baseline of steady traffic"
        check = self._timeline.wait(what, MONITOR_SECONDS, self._learnt)
        n = len(traffic.answers)
        self._timeline.add("monitor", f"no alarm after {n} requests. prompts: {check['message']}")

    def _learnt(self) -> dict[str, Any] | None:
        """Return the check of prompts after it has its baseline."""
        report = self._report()
        if report.get("alarms"):
            raise StepError(f"monitor: an alarm of {report['alarms']} without a change of traffic")
        checks = {check["check"]: check for check in report.get("checks", ())}
        if not checks or checks["prompts"]["details"].get("baseline_missing", 1):
            return None
        return dict(checks["prompts"])

    def _drift(self, traffic: Traffic, first: str) -> str:
        """Change the prompts, and follow the reaction; return the new champion."""
        traffic.change(NEW_KINDS)
        changed, before = time.monotonic(), len(traffic.answers)
        self._timeline.add("traffic", f"now {', '.join(NEW_KINDS)} scenes: the prompts drift")
        run = self._timeline.wait("monitor: an alarm", MONITOR_SECONDS, self._prefect.drift_run)
        n, seconds = len(traffic.answers) - before, time.monotonic() - changed
        reason = run["parameters"]["reason"]
        self._timeline.add("monitor", f"{reason} ({n} requests and {seconds:.0f} s after it)")
        self._timeline.add("retrain", f"the monitor has started the run {run['name']!r}")
        second = self._champion_changed(run, first)
        self._timeline.add("retrain", f"tasks: {', '.join(self._prefect.tasks(run['id']))}")
        return second

    def _champion_changed(self, run: dict[str, Any], first: str) -> str:
        """Wait until the run has changed the champion, in the registry and in the service."""
        limit = self._size.retrain_seconds

        def changed() -> str | None:
            champion = self._registry.champion()
            if champion == first and self._prefect.finished(run["id"]):
                reason = self._registry.challenger()[1]
                raise StepError(f"gate: the retrained router is not promoted: {reason}")
            return champion if champion not in ("", first) else None

        second = self._timeline.wait("retrain: a new champion", limit, changed)
        seen = time.monotonic()
        self._timeline.add("gate", self._registry.challenger()[1])
        self._timeline.add("mlflow", f"the champion is router version {second}, before: {first}")
        self._timeline.wait("service: the champion", CHANGE_SECONDS, lambda: self._serves(second))
        seconds = time.monotonic() - seen
        self._timeline.add("service", f"serves router version {second}, {seconds:.1f} s later")
        self._timeline.wait("retrain", limit, lambda: self._prefect.finished(run["id"]))
        return second

    def _routed(self, traffic: Traffic, first: str, second: str) -> None:
        """Print the decisions for the new prompts before and after the promotion."""
        enough = 20
        self._timeline.wait(
            "traffic: decisions of the new champion",
            CHANGE_SECONDS,
            lambda: sum(answer.version == second for answer in traffic.answers) >= enough or None,
        )
        for version in (first, second):
            shares = traffic.shares(NEW_KINDS, version)
            text = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:3])
            self._timeline.add("service", f"{NEW_KINDS[0]} scenes, router {version}: {text}")

    def _roll_back(self, second: str, first: str) -> None:
        """Return to the first champion with one command, and read it back."""
        start = time.monotonic()
        output = self._command("rollback", CHANGE_SECONDS, "-m", "catimage.cli.app", "rollback")
        seconds = time.monotonic() - start
        self._timeline.add("rollback", output.strip().replace("\n", "; "))
        served, champion = self._service.version(), self._registry.champion()
        if (served, champion) != (first, first):
            raise StepError(
                f"rollback: the service has version {served} and MLflow {champion}, not {first}"
            )
        text = f"catimage rollback, {seconds:.1f} s: the service and MLflow have version {first}"
        self._timeline.add("rollback", f"{text} again, instead of {second}")

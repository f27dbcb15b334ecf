"""Start and end of the service: readiness, SIGKILL of a generator process, SIGTERM under load."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import time

import httpx
import psutil

from benchmarks.measure import Row
from benchmarks.serving.load import Load, closed_loop
from benchmarks.serving.options import Options
from benchmarks.serving.processes import ServerProcess
from benchmarks.serving.services import Package, baseline, captions, packaged, routed_call


def _start(package: Package) -> tuple[float, float]:
    """Return seconds until /livez and /readyz answer 200."""
    with package.serve(wait=False) as target:
        live = target.server.wait_status("/livez", {200})
        return live, target.server.wait_ready()


def generator_process(server: ServerProcess) -> psutil.Process:
    """Return the process of the generators: the child that has loaded torch and most memory."""
    return server.largest()


async def _killed(server: ServerProcess, seconds: float) -> tuple[Load, float, float]:
    """Kill the generators under load.

    Returns:
        The outcomes, the seconds after the kill until the service is ready again, and until the
        first answer to a request that was sent after the kill.
    """
    prompts = captions(400, seed=41)
    calls = (routed_call(prompts[i % 400], i) for i in itertools.count())
    start = time.perf_counter()
    running = asyncio.create_task(closed_loop(server.url, calls, 8, seconds))
    await asyncio.sleep(seconds / 4)
    generator_process(server).kill()
    killed = time.perf_counter()
    await _status(server, 503, 5.0)  # the service notices that the process has ended
    await _status(server, 200, 90.0)
    ready = time.perf_counter() - killed
    load = await running
    answered = [
        outcome.due + outcome.seconds - (killed - start)
        for outcome in load.outcomes
        if outcome.ok and outcome.due > killed - start
    ]
    return load, ready, min(answered, default=float("nan"))


async def _status(server: ServerProcess, status: int, limit: float) -> None:
    """Wait until /readyz answers with a status, for at most ``limit`` seconds."""
    end = time.perf_counter() + limit
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while time.perf_counter() < end:
            try:
                if (await client.get(f"{server.url}/readyz")).status_code == status:
                    return
            except httpx.TransportError:
                pass  # it is counted as not ready
            await asyncio.sleep(0.05)


async def _terminated(server: ServerProcess) -> tuple[Load, float, dict[int, int], float]:
    """Send SIGTERM with requests in flight.

    Returns:
        The accepted requests, the seconds until the end, and the statuses and the largest seconds
        of requests that were sent after the signal.
    """
    prompts = captions(64, seed=42)
    calls = iter([routed_call(prompt, i, 2) for i, prompt in enumerate(prompts[:16])])
    accepted = asyncio.create_task(closed_loop(server.url, calls, 16, 60))
    await asyncio.sleep(0.3)
    start = time.perf_counter()
    server.terminate()
    await asyncio.sleep(0.1)
    late = asyncio.create_task(_late_requests(server))
    ended = await asyncio.to_thread(_end, server, start)
    statuses, slowest = await late
    return await accepted, ended, statuses, slowest


def _end(server: ServerProcess, start: float) -> float:
    try:
        server.process.wait(90)
    except subprocess.TimeoutExpired:
        return float("inf")
    return time.perf_counter() - start


async def _late_requests(server: ServerProcess) -> tuple[dict[int, int], float]:
    statuses: dict[int, int] = {}
    slowest, end = 0.0, time.perf_counter() + 60
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        while time.perf_counter() < end and server.process.poll() is None:
            start = time.perf_counter()
            try:
                url, body = f"{server.url}/v1/route", {"prompt": "late"}
                status = (await client.post(url, json=body)).status_code
            except httpx.ConnectError:
                status = 0
            except httpx.TransportError:
                status = -1
            statuses[status] = statuses.get(status, 0) + 1
            slowest = max(slowest, time.perf_counter() - start)
            await asyncio.sleep(0.1)
    return statuses, slowest


def rows(options: Options) -> list[Row]:
    """Return the rows of the start, the kill and the end."""
    with baseline("bentoml_plain") as plain:
        other = time.perf_counter() - plain.server.started
    with packaged(options) as package:
        live, ready = sorted([_start(package) for _ in range(1 if options.short else 3)])[0]
        with package.serve() as target:
            killed = asyncio.run(_killed(target.server, 20.0 if options.short else 40.0))
        with package.serve() as target:
            asyncio.run(closed_loop(target.server.url, iter([routed_call("a", 1)]), 1))
            accepted, ended, statuses, slowest = asyncio.run(_terminated(target.server))
    plain_start = f"{other:.1f} s (plain BentoML service)"
    return [
        Row("/livez answers after", f"{live:.1f} s", target="at once"),
        Row("ready after", f"{ready:.1f} s", plain_start, f"{ready / other:.2f}x", "15 s"),
        Row(
            "ready after SIGKILL of the generators under load",
            f"{killed[1]:.1f} s, first new answer after {killed[2]:.1f} s; requests: {killed[0]}",
            target="15 s, no 500",
        ),
        Row(
            f"SIGTERM with {len(accepted.outcomes)} requests in flight",
            f"ends after {ended:.1f} s; accepted: {accepted.statuses}; later requests: {statuses},"
            f" slowest {slowest:.2f} s",
            target="20 s; all accepted answered; 503 at once",
        ),
    ]

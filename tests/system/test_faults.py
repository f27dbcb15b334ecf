"""Killed generators, restarts during load, SIGTERM with requests in flight, jobs, rollouts."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from benchmarks.serving.load import FAILED, Load
from benchmarks.serving.processes import free_port

from catimage.serving.client.client import Client
from tests.system.background import Background, endless_calls, lost
from tests.system.running_service import (
    MOST_EXPENSIVE,
    PROMPT,
    ROUTE,
    difference,
    images_call,
    run_load,
    serve,
)

pytestmark = pytest.mark.system


def test_a_killed_generator_process_loses_no_request(packaged: Path, tmp_path: Path) -> None:
    with serve(packaged, tmp_path) as service:
        background = Background(service.url, 8)
        time.sleep(3)
        victim = service.process.largest()
        victim.kill()
        killed = time.perf_counter()
        time.sleep(20)
        load = background.result()
        assert set(load.statuses) <= {200, 429, 503}, (load.statuses, service.log()[-3000:])
        refused = [o for o in load.outcomes if o.status in (429, 503)]
        assert all("Retry-After" in outcome.headers for outcome in refused)
        service.process.wait_ready(killed - service.process.started + 120)
        assert victim.pid not in {process.pid for process in service.process.family()}
        after = run_load(service, itertools.islice(endless_calls(), 16), 4)
        assert after.statuses == {200: 16}


def test_requests_in_flight_are_answered_after_sigterm(packaged: Path, tmp_path: Path) -> None:
    with serve(packaged, tmp_path) as service:
        run_load(service, [images_call(seed=0)], 1)
        calls = [images_call(n=2, seed=i, model=MOST_EXPENSIVE) for i in range(12)]
        results: list[Load] = []
        thread = threading.Thread(target=lambda: results.append(run_load(service, calls, 12)))
        thread.start()
        time.sleep(0.3)
        start = time.perf_counter()
        service.process.terminate()
        time.sleep(0.2)
        late = Counter(_late_status(service.url) for _ in range(3))
        service.process.process.wait(25)
        seconds = time.perf_counter() - start
        thread.join()
        assert results[0].statuses == {200: 12}, service.log()[-3000:]
        assert seconds < 20
        assert set(late) <= {503, None}  # None: the connection is refused, as it has ended
        assert not any(process.is_running() for process in service.process.family())


def _late_status(url: str) -> int | None:
    try:
        start = time.perf_counter()
        status = httpx.post(url + ROUTE, json={"prompt": PROMPT}, trust_env=False).status_code
        assert time.perf_counter() - start < 2
        return status
    except httpx.ConnectError:
        return None


def test_a_restart_during_load_loses_no_accepted_request_and_no_job(
    packaged: Path, tmp_path: Path
) -> None:
    port = free_port()
    with serve(packaged, tmp_path, port=port) as service, Client(service.url) as client:
        background = Background(service.url, 6)
        time.sleep(2)
        jobs = [client.submit(PROMPT, n=10, seed=i).job_id for i in range(6)]
        service.process.terminate()
        service.process.process.wait(30)
    with serve(packaged, tmp_path, port=port) as service, Client(service.url) as client:
        time.sleep(5)
        load = background.result()
        assert set(load.statuses) <= {200, 429, 503, FAILED}, load.statuses
        assert lost(load) == []
        last = max(outcome.due for outcome in load.outcomes if outcome.status == FAILED)
        assert any(outcome.ok and outcome.due > last for outcome in load.outcomes)
        assert [len(client.wait(job, timeout=60)) for job in jobs] == [10] * 6


def test_jobs_survive_a_crash_of_all_processes(packaged: Path, tmp_path: Path) -> None:
    with serve(packaged, tmp_path) as service, Client(service.url) as client:
        expected = client.generate(PROMPT, n=4, seed=5, model=MOST_EXPENSIVE)
        options = {"seed": 5, "model": MOST_EXPENSIVE}
        jobs = [client.submit(PROMPT, n=4, **options).job_id for _ in range(8)]
        for process in service.process.family():
            os.kill(process.pid, signal.SIGKILL)
        service.process.process.wait()
    with serve(packaged, tmp_path) as service, Client(service.url) as client:
        for job in jobs:
            files = client.wait(job, timeout=90).files
            assert [difference(*pair) <= 1 for pair in zip(files, expected.files, strict=True)] == [
                True
            ] * 4

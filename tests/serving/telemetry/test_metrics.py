"""The metrics of one process and of several processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from catimage.serving.telemetry import metrics
from catimage.serving.telemetry.definitions import METRICS
from catimage.serving.telemetry.metrics import OTHER, SERIES, Metrics, exposition, shared_metrics

ROOT = Path(__file__).parents[3]


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the values of an exposition; each family has help, a type and unique series."""
    found = {}
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names))
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def test_names_follow_the_conventions_of_prometheus() -> None:
    for name, family in METRICS.items():
        assert re.fullmatch(r"catimage_[a-z_]+", name)
        assert name.endswith("_total") == (family.kind == "counter")
        assert family.text.endswith(".")
        assert (family.kind == "histogram") == bool(family.buckets)
        assert list(family.buckets) == sorted(set(family.buckets))


def test_series_are_limited_and_known_series_are_kept() -> None:
    own = Metrics()
    for i in range(SERIES + 50):
        own.add("catimage_rejections_total", reason=f"reason-{i}")
    own.add("catimage_rejections_total", reason="reason-1")
    value = own.registry.get_sample_value
    assert value("catimage_rejections_total", {"reason": "reason-1"}) == 2
    assert value("catimage_rejections_total", {"reason": OTHER}) == 50
    with pytest.raises(KeyError):
        own.add("catimage_unknown_total")


def test_the_shared_metrics_are_created_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_SHARED", [])
    found: list[Metrics] = []
    threads = [threading.Thread(target=lambda: found.append(shared_metrics())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(map(id, found))) == 1


def test_the_exposition_of_one_process_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_SHARED", [])
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    shared_metrics().add("catimage_requests_total", route="/v1/models", status="200")
    shared_metrics().observe("catimage_batch_size", 3, candidate='a "name"\n')
    content, media_type = exposition()
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"
    values = samples(content.decode())
    assert values["catimage_requests_total", (("route", "/v1/models"), ("status", "200"))] == 1
    labels = (("candidate", 'a "name"\n'),)
    assert values["catimage_batch_size_bucket", (*labels, ("le", "2.0"))] == 0
    assert values["catimage_batch_size_bucket", (*labels, ("le", "4.0"))] == 1
    assert values["catimage_batch_size_sum", labels] == 3
    assert not [name for name, _ in values if name.endswith("_created")]


GENERATOR = """
import sys
from catimage.serving.telemetry.metrics import shared_metrics
m = shared_metrics()
for size in map(int, sys.argv[2:]):
    m.observe("catimage_batch_size", size, candidate="small")
m.set("catimage_queue_images", 5, group=sys.argv[1])
m.add("catimage_router_info", version="3")
from prometheus_client import Counter
Counter("bentoml_request_total", "Requests", ["endpoint"]).labels("/any/path").inc()
print("ready", flush=True)
sys.stdin.read()
"""
ROUTER = """
from catimage.serving.telemetry.metrics import exposition, shared_metrics
shared_metrics().set("catimage_pressure", 0.5)
shared_metrics().add("catimage_router_info", version="3")
print(exposition()[0].decode())
"""


def test_processes_share_their_metrics_and_gauges_of_dead_processes_vanish(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def start(*arguments: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", GENERATOR, *arguments],
            env=environment,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        return child

    def scrape() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        command = [sys.executable, "-c", ROUTER]
        return samples(subprocess.check_output(command, env=environment, cwd=ROOT, text=True))

    with start("one", "1", "4") as first, start("two", "8") as second:
        values = scrape()
        second.kill()
        second.wait()
        after = scrape()
        first.communicate()
    sizes = ("catimage_batch_size_count", (("candidate", "small"),))
    assert values[sizes] == after[sizes] == 3
    queues = {dict(k[1])["group"] for k in values if k[0] == "catimage_queue_images"}
    assert queues == {"one", "two"}
    assert [k for k in after if k[0] == "catimage_queue_images"] == [
        ("catimage_queue_images", (("group", "one"),))
    ]
    assert values["catimage_router_info", (("version", "3"),)] == 3
    assert after["catimage_router_info", (("version", "3"),)] == 2
    assert values["catimage_pressure", ()] == 0.5
    assert not [name for name, _ in values if name.startswith("bentoml")]
    assert any(name == "process_resident_memory_bytes" for name, _ in values)

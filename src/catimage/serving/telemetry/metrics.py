"""Prometheus metrics that the processes of a service share on one machine.

``bentoml serve`` sets ``PROMETHEUS_MULTIPROC_DIR``: every process writes its values to files in
that folder, and any of them can return the sum (:func:`exposition`). Without the variable, the
metrics are those of the process. ``prometheus_client`` reads the variable when it is imported, so
it is imported at the first use of a metric.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catimage.serving.telemetry.definitions import METRICS, Family

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric
    from prometheus_client.samples import Sample

SERIES = 1000
"""Maximum number of series per metric of a process. The labels of further series are ``other``."""
OTHER = "other"
"""Label of the series above the maximum."""


class Metrics:
    """The metrics of a process; use :func:`shared_metrics` for those that are exported.

    Labels are names of routes, candidates, groups, keys and reasons, never text of a client.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, disable_created_metrics

        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._metrics = {name: _build(name, f, self.registry) for name, f in METRICS.items()}
        self._series: dict[str, dict[tuple[str, ...], Any]] = {name: {} for name in METRICS}
        self._lock = threading.Lock()

    def add(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Increase a counter or a gauge."""
        self._child(name, labels).inc(amount)

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        self._child(name, labels).set(value)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Add a value to a histogram."""
        self._child(name, labels).observe(value)

    def _child(self, name: str, labels: dict[str, str]) -> Any:
        """Return the series with these labels; ``other`` if the metric has too many series."""
        names, series = METRICS[name].labels, self._series[name]
        if not names:
            return self._metrics[name]
        key = tuple(str(labels[label]) for label in names)
        child = series.get(key)
        if child is None:
            with self._lock:
                if len(series) >= SERIES and key not in series:
                    key = (OTHER,) * len(names)
                child = series.setdefault(key, self._metrics[name].labels(*key))
        return child


def _build(name: str, family: Family, registry: CollectorRegistry) -> Any:
    from prometheus_client import Counter, Gauge, Histogram

    if family.kind == "counter":
        return Counter(name, family.text, family.labels, registry=registry)
    if family.kind == "histogram":
        return Histogram(
            name, family.text, family.labels, buckets=family.buckets, registry=registry
        )
    return Gauge(name, family.text, family.labels, multiprocess_mode=family.mode, registry=registry)


_LOCK = threading.Lock()
_SHARED: list[Metrics] = []


def shared_metrics() -> Metrics:
    """Return the metrics of this process, which are created at the first call."""
    with _LOCK:
        if not _SHARED:
            _SHARED.append(Metrics())
        return _SHARED[0]


def exposition() -> tuple[bytes, str]:
    """Return the metrics of all processes of the service, and of the memory of this process.

    Returns:
        The metrics in Prometheus' text format 0.0.4, and the content type.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, values

    own = shared_metrics().registry
    registry = CollectorRegistry()
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and getattr(values.ValueClass, "_multiprocess", False):
        registry.register(_SharedFiles(Path(folder)))
    else:
        registry.register(own)
    ProcessCollector(registry=registry)
    return generate_latest(registry), "text/plain; version=0.0.4; charset=utf-8"


class _SharedFiles:
    """Collects CATImage's metrics from the files of all processes.

    BentoML's own metrics in the same folder are left out: their labels contain request paths.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.multiprocess import MultiProcessCollector

        _remove_dead(self._folder)
        collector = MultiProcessCollector(None, str(self._folder))  # type: ignore[no-untyped-call]
        for metric in collector.collect():  # type: ignore[no-untyped-call]
            if metric.name.startswith("catimage_"):
                metric.samples.sort(key=_sample_order)
                yield metric


def _remove_dead(folder: Path) -> None:
    """Remove the gauges of processes that have ended; counters and histograms stay."""
    from prometheus_client.multiprocess import mark_process_dead

    names = {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*_*.db")}
    for pid in names:
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]


def _sample_order(sample: Sample) -> tuple[list[tuple[str, str]], bool, float]:
    """Return the order of the samples of a metric: the buckets of a series, then its sum."""
    labels = [item for item in sorted(sample.labels.items()) if item[0] != "le"]
    return labels, "le" not in sample.labels, float(sample.labels.get("le", 0))

"""The time and the memory of routers, and the limits of the gate."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from catimage.params import PromoteParams
from catimage.router import Router
from catimage.tracking.overhead import NEGLIGIBLE_BYTES, Overhead, excess, measure, memory
from tests.tracking.table_routers import router

LIMITS = PromoteParams(max_latency_ratio=2.0, max_memory_ratio=1.5)
MIB = 1024**2


def _router(seconds: float, size: int) -> Router:
    """Return a router whose decisions take a time, and whose estimator has an array."""

    def features(texts: Any) -> Any:
        time.sleep(seconds)
        return np.zeros((len(texts), 1))

    regressor = DummyRegressor().fit(np.zeros((2, 1)), np.zeros((2, 2)))
    regressor.array_ = np.zeros(size, np.uint8)
    steps = [("features", FunctionTransformer(features)), ("regressor", regressor)]
    return router(np.zeros((1, 2)), estimator=Pipeline(steps))


def test_routers_are_measured_in_turns() -> None:
    fast, slow = measure([_router(0.0, 10), _router(0.01, 10 * MIB)], ["a", "b"])
    assert slow.milliseconds >= 10 and fast.milliseconds < slow.milliseconds
    assert slow.memory - fast.memory == pytest.approx(10 * MIB, rel=0.01)


def test_shared_and_nested_arrays_count_once_and_views_with_their_base() -> None:
    array = np.zeros(MIB, np.uint8)
    assert memory([array, {"again": array}, array[:10]]) == pytest.approx(MIB, abs=2000)
    assert memory(array[:10]) == pytest.approx(MIB, abs=2000)
    assert memory([np, len, Router]) < 1000, "code does not count"


def test_tensors_count_with_their_storage() -> None:
    torch = pytest.importorskip("torch")
    assert memory({"weights": torch.zeros(MIB // 4)}) == pytest.approx(MIB, abs=5000)


@pytest.mark.parametrize(
    ("milliseconds", "mebibytes", "problem"),
    [
        (20.0, 150.0, ""),
        (20.1, 100.0, "a decision takes 20.1 ms, and one of the champion 10 ms"),
        (10.0, 151.0, "it needs 151 MiB of memory, and the champion 100 MiB"),
        (1.0, 1.0, ""),
    ],
)
def test_a_challenger_may_exceed_the_champion_by_the_ratios(
    milliseconds: float, mebibytes: float, problem: str
) -> None:
    champion = Overhead(10.0, 100 * MIB)
    found = excess(champion, Overhead(milliseconds, int(mebibytes * MIB)), LIMITS)
    assert found.startswith(problem) if problem else not found


def test_small_differences_pass_whatever_their_ratio() -> None:
    tiny = Overhead(0.1, 1000)
    assert not excess(tiny, Overhead(5.0, 1000 + NEGLIGIBLE_BYTES), LIMITS)
    assert "; " in excess(tiny, Overhead(5.2, 1001 + NEGLIGIBLE_BYTES), LIMITS)

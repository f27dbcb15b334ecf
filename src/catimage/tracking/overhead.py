"""The time and the memory that the decisions of a router need, and their limits for a challenger.

The times of two routers are measured in the same process and in turns, so that the load of the
machine affects both.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from catimage.estimators.overhead import decision_ms
from catimage.params import PromoteParams
from catimage.router import Router

ROUNDS, PROMPTS = 3, 20
"""Number of measurements of each router, of which the fastest counts, and prompts in each."""
NEGLIGIBLE_MS, NEGLIGIBLE_BYTES = 5.0, 16 * 1024**2
"""A challenger that exceeds the champion by no more than this passes, whatever the ratio."""
_CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, CodeType)


@dataclass(frozen=True)
class Overhead:
    """What the decisions of a router need.

    Attributes:
        milliseconds: median time of one decision on this machine, with the text encoder.
        memory: bytes of the objects that the router refers to, such as the arrays of its
            estimators. A text encoder, which several routers can share, is not included.
    """

    milliseconds: float
    memory: int


def measure(routers: Sequence[Router], prompts: Sequence[str]) -> list[Overhead]:
    """Measure routers in turns.

    Args:
        routers: the routers.
        prompts: at least one prompt; the first :data:`PROMPTS` are routed, one per call.
    """
    texts = list(prompts[:PROMPTS])
    times = [
        [decision_ms(router.estimator, texts, router.costs)["with_text"] for router in routers]
        for _ in range(ROUNDS)
    ]
    fastest = np.min(times, axis=0).tolist()
    return [Overhead(ms, memory(r)) for ms, r in zip(fastest, routers, strict=True)]


def memory(root: object) -> int:
    """Return the bytes of an object and of all objects that it refers to, without code."""
    total, seen, stack = 0, set[int](), [root]
    while stack:
        item: Any = stack.pop()
        if id(item) in seen or isinstance(item, _CODE):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        stack += gc.get_referents(item)
        if isinstance(item, np.ndarray) and item.base is not None:
            stack.append(item.base)
        elif type(item).__module__.startswith("torch") and hasattr(item, "untyped_storage"):
            stack.append(item.untyped_storage())
    return total


def excess(champion: Overhead, challenger: Overhead, settings: PromoteParams) -> str:
    """Return how a challenger exceeds the limits of the section ``promote``; empty if it does not.

    Args:
        champion: the needs of the champion.
        challenger: the needs of the challenger.
        settings: the section ``promote``.
    """
    found = []
    old, new = champion.milliseconds, challenger.milliseconds
    if new > max(settings.max_latency_ratio * old, old + NEGLIGIBLE_MS):
        found.append(
            f"a decision takes {new:.3g} ms, and one of the champion {old:.3g} ms; at most"
            f" {settings.max_latency_ratio:g} times as much is allowed (promote.max_latency_ratio)"
        )
    old, new = champion.memory / 1024**2, challenger.memory / 1024**2
    if new > max(settings.max_memory_ratio * old, old + NEGLIGIBLE_BYTES / 1024**2):
        found.append(
            f"it needs {new:.4g} MiB of memory, and the champion {old:.4g} MiB; at most"
            f" {settings.max_memory_ratio:g} times as much is allowed (promote.max_memory_ratio)"
        )
    return "; ".join(found)

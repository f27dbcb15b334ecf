"""What a decision depends on besides the request: the state of the candidates at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from catimage.serving.tasks import CandidateLoad


@dataclass(frozen=True)
class Conditions:
    """The state of the candidates at the time of a decision.

    Attributes:
        loads: the measured speed of each candidate, by name. A candidate without one has no known
            latency, and no price under load.
        queue_seconds: estimated time until a task that arrives now starts, by candidate.
        unavailable: why a candidate cannot be used now, by name, such as ``circuit breaker open``.
        sizes: (width, height) of the images of each candidate, in pixels. A candidate without one
            can make every size.
        negative_prompts: the candidates that take a negative prompt; None if all of them do.
        pressure: price of one second of the busiest device, in quality
            (:class:`~catimage.serving.decisions.pressure.PressureController`).
        pressure_shares: the price for the device of a candidate, as a share of ``pressure``, by
            name; a candidate without one has the share 1.
        remaining: cost that an API key may still spend, by the id of the key; a key without an
            entry has no ceiling.
    """

    loads: Mapping[str, CandidateLoad] = field(default_factory=dict)
    queue_seconds: Mapping[str, float] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    negative_prompts: frozenset[str] | None = None
    pressure: float = 0.0
    pressure_shares: Mapping[str, float] = field(default_factory=dict)
    remaining: Mapping[str, float] = field(default_factory=dict)

    def seconds(self, candidate: str) -> float:
        """Return the device time of one image of a candidate under load; 0 if it is unknown."""
        load = self.loads.get(candidate)
        return load.batch_seconds if load else 0.0

    def priced_seconds(self, candidate: str) -> float:
        """Return the device time of one image of a candidate that ``pressure`` applies to."""
        return self.pressure_shares.get(candidate, 1.0) * self.seconds(candidate)

    def latency(self, candidate: str, n: int) -> float:
        """Return the estimated seconds until ``n`` images of a candidate are finished."""
        return self.queue_seconds.get(candidate, 0.0) + self.generation_seconds(candidate, n)

    def generation_seconds(self, candidate: str, n: int) -> float:
        """Return the seconds of ``n`` images of an idle device, made in batches."""
        load = self.loads.get(candidate)
        return max(load.seconds, n * load.batch_seconds) if load else 0.0

"""The sizes of the demonstration: complete, and small for the system tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """A size.

    Attributes:
        prompts: number of captions that the first router is trained on.
        candidates: candidates of the pool ``tiny`` that are used; empty for all.
        taken: largest number of prompts that a retrain takes from the decision log.
        gate_share: share of the prompts in the split ``gate``.
        baseline_prompts: number of prompts from which the monitor learns steady traffic.
        audits: number of logged prompts per interval that the monitor generates again.
        interval: seconds between two runs of the monitor, and length of its intervals.
        requests_per_second: requests per second.
        retrain_seconds: time limit of a run of the flow ``retrain``.
    """

    prompts: int
    candidates: tuple[str, ...]
    taken: int
    gate_share: float
    baseline_prompts: int
    audits: int
    interval: int
    requests_per_second: float
    retrain_seconds: float


_FEW = ("tiny-turbo", "tiny-lightning", "tiny-patterns-4")
SIZES = {
    "full": Size(200, (), 100, 0.25, 100, 1, 40, 2.5, 600),
    "small": Size(100, _FEW, 100, 0.35, 40, 0, 20, 4.0, 600),
}
"""The sizes by name."""

"""A sequential two-sample test of prompts in embedding space, by betting on a witness.

The witness is the direction in which recent prompts differ most from the prompts that the router
was trained on: the difference of the means, in coordinates in which the training prompts have
about unit covariance (Fisher's linear discriminant; the witness function of the maximum mean
discrepancy with a linear kernel in these coordinates). Each new prompt is ranked among the training
prompts along the witness that was computed *before* the prompt arrived. Without a difference, the
ranks have mean 0.5; with one, their mean is the area under the ROC curve (AUC) of the witness as a
classifier of recent and training prompts. An e-detector tests whether the mean rank exceeds a limit
(after Shekhar and Ramdas, "Nonparametric two-sample testing by betting", 2023).

Traffic always differs a little from the training prompts: stage sample removes similar prompts. The
limit is therefore the mean rank of the first prompts, the baseline, plus a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from catimage.common.arrays import Float32, Floats
from catimage.monitoring.e_detector import (
    advance,
    initial,
    log_evidence,
    state_from_json,
    state_to_json,
)
from catimage.monitoring.reference import Reference
from catimage.params.monitor import PromptDriftParams

MEMORY = 50
"""Number of prompts after which the weight of a prompt in the mean of recent prompts has decreased
to 1/e."""
STEP = 10
"""Number of prompts that are ranked along the same witness."""


@dataclass(frozen=True)
class PromptDrift:
    """The state of the test for one or more independent streams of prompts.

    Attributes:
        recent: the weighted mean of the earlier prompts, which is the witness,
            (n_streams, n_coordinates).
        detector: the state of the e-detectors, (n_streams, n_stakes).
        count: number of prompts in the baseline.
        total: sum of the ranks of the baseline, (n_streams,).
    """

    recent: Float32
    detector: Floats
    count: int
    total: Floats

    @classmethod
    def start(cls, coordinates: int, streams: int = 1) -> Self:
        """Return the state before the first prompt."""
        recent = np.zeros((streams, coordinates), np.float32)
        return cls(recent, initial(streams), 0, np.zeros(streams))

    def limit(self, settings: PromptDriftParams) -> Floats:
        """Return the highest mean rank without drift, (n_streams,).

        While the baseline is incomplete, it is that of the highest baseline.
        """
        complete = self.count >= settings.baseline_prompts
        mean = self.total / max(self.count, 1) if complete else np.inf
        baseline = np.clip(mean, 0.5, settings.max_baseline)
        return np.broadcast_to(baseline + settings.tolerance, self.total.shape)

    def update(
        self, reference: Reference, points: Float32, settings: PromptDriftParams
    ) -> tuple[Self, Floats]:
        """Test further prompts.

        Args:
            reference: the training prompts.
            points: coordinates in order of time, (n_streams, n_prompts, n_coordinates).
            settings: the section ``monitor.prompts``.

        Returns:
            The new state, and the ranks of the prompts, (n_streams, n_prompts).
        """
        state, ranks = self, [np.empty((len(self.recent), 0))]
        start, end = 0, points.shape[1]
        while start < end:
            left = settings.baseline_prompts - state.count
            size = min(STEP, end - start, *([left] if left > 0 else []))
            step = points[:, start : start + size]
            ranks.append(reference.ranks(state.recent, step))
            state = state._after(step, ranks[-1], settings)
            start += size
        return state, np.concatenate(ranks, 1)

    def _after(self, step: Float32, ranks: Floats, settings: PromptDriftParams) -> Self:
        """Return the state after prompts that belong to the baseline or follow it."""
        baseline = self.count < settings.baseline_prompts
        detector = advance(self.detector, ranks, self.limit(settings))
        keep = np.float32(np.exp(-1 / MEMORY))
        weights = (1 - keep) * keep ** np.arange(step.shape[1], dtype=np.float32)[::-1]
        recent = keep ** step.shape[1] * self.recent + np.einsum("n,snd->sd", weights, step)
        return replace(
            self,
            recent=recent.astype(np.float32),
            detector=detector,
            count=self.count + step.shape[1] * baseline,
            total=self.total + ranks.sum(1) * baseline,
        )

    def restarted(self) -> Self:
        """Return the state without evidence, which an alarm leaves."""
        return replace(self, detector=initial(len(self.recent)))

    @property
    def evidence(self) -> Floats:
        """The logarithm of the evidence of drift, (n_streams,)."""
        return log_evidence(self.detector)

    def to_json(self) -> dict[str, Any]:
        """Return the state of the first stream as a JSON object."""
        return {
            "recent": [float(f"{x:.6g}") for x in self.recent[0].tolist()],
            "detector": state_to_json(self.detector[0]),
            "count": self.count,
            "total": float(self.total[0]),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return the state that :meth:`to_json` wrote."""
        return cls(
            np.array([state["recent"]], np.float32),
            state_from_json(state["detector"])[None],
            int(state["count"]),
            np.array([state["total"]], float),
        )

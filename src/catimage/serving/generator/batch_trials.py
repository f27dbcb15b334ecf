"""Corrects the largest batch of a candidate with the batches that requests make anyway.

The measurements at the start may be disturbed for their whole duration, for example by another
replica that is under load. Therefore, after some full batches, a batch with twice or half as many
images is made, and its time per image is compared with that of the full batches just before it,
which were made under the same load. Several equal results in a row change the largest batch.
"""

from __future__ import annotations

from collections import deque
from statistics import median

LARGEST_BATCH = 32
"""The largest batch that is tried."""
MARGIN = 0.1
"""A larger batch is better if the time per image falls by at least this share."""
NO_GAIN = 0.05
"""A batch with half as many images is sufficient if the larger one saves less than this share."""
WINS, LOSSES = 2, 3
"""Number of trials in a row after which the largest batch is doubled, or halved. A batch that is
too small costs more than one that is too large.
"""
FIRST_INTERVAL, LONGEST_INTERVAL = 2, 64
"""Full batches between two trials. The number is doubled after each trial that confirms the present
largest batch, so that trials hardly cost any time.
"""


class BatchTrials:
    """The trials of one candidate. Not thread-safe.

    Args:
        size: number of images of the largest batch.
    """

    def __init__(self, size: int = 1) -> None:
        self.restart(size)

    def restart(self, size: int) -> None:
        """Forget the earlier batches: the largest batch has ``size`` images from now on."""
        self.size, self._larger = size, True
        self._interval, self._full, self._votes = FIRST_INTERVAL, 0, 0
        self._usual: deque[float] = deque(maxlen=4)
        """Seconds per image of the last full batches."""

    def limit(self, bound: int) -> int:
        """Return the largest number of images of the next batch.

        Args:
            bound: the largest number of images for which the memory is sufficient.
        """
        due = self._full >= (1 if self._votes else self._interval)
        return self._tried(min(bound, LARGEST_BATCH)) if due else self.size

    def record(self, images: int, seconds: float) -> int:
        """Count a batch that was made in ``seconds``; return the new largest batch."""
        if images == self.size:
            self._full += 1
            self._usual.append(seconds / images)
        elif self._usual and images == 2 * self.size and self._larger:
            gain = 1 - seconds / images / median(self._usual)
            self._vote(gain >= MARGIN, WINS, images)
        elif self._usual and images == self.size // 2 and not self._larger and self._full:
            gain = 1 - median(self._usual) / (seconds / images)
            self._vote(gain < NO_GAIN, LOSSES, images)
        return self.size

    def _tried(self, bound: int) -> int:
        """Return the size of the trial that is due."""
        if self._larger and 2 * self.size > bound:
            self._larger = False
        if not self._larger and self.size == 1:
            self._larger = bound > 1
        return max(1, self.size * 2 if self._larger else self.size // 2)

    def _vote(self, better: bool, needed: int, images: int) -> None:
        """Count the result of a trial: whether its size is better than the present one."""
        self._votes, self._full = self._votes + 1 if better else 0, 0
        if self._votes == needed:
            self.restart(images)
        elif not better:
            self._larger = not self._larger
            self._interval = min(2 * self._interval, LONGEST_INTERVAL)

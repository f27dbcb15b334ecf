"""Changes compared with recent traffic, by the streaming detector ADWIN of the library river.

The other checks compare the traffic with the training data. ADWIN (Bifet and Gavalda, "Learning
from time-changing data with adaptive windowing", 2007) compares it with the traffic before: it
keeps a window of recent values, and drops the older part when the means of two parts differ.

A detector of river has no portable state. The recent values are stored instead, and a new detector
reads them in each run, which takes about a millisecond for 1,000 values. After a change, only the
values after it are kept, so that a change is detected once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catimage.errors import InputError
from catimage.params.monitor import StreamParams


@dataclass(frozen=True)
class StreamChange:
    """The result of :func:`detect_change`.

    Attributes:
        detected: whether the mean changed.
        values: the values to keep: those of the window of the detector.
        before: the mean of the earlier values; of the new ones if there are none.
        after: the mean of the values that were kept; NaN without values.
    """

    detected: bool
    values: list[float]
    before: float
    after: float


def detect_change(
    earlier: Sequence[float], new: Sequence[float], settings: StreamParams
) -> StreamChange:
    """Read values in order of time, and detect a change of their mean.

    Args:
        earlier: values of previous runs, between 0 and 1.
        new: new values, between 0 and 1.
        settings: the section ``monitor.streams``.

    Raises:
        InputError: river is not installed.
    """
    try:
        from river.drift import ADWIN
    except ImportError as error:
        raise InputError(
            "monitor.streams: the package river is not installed. Install catimage[monitoring]."
        ) from error
    detector, detected = ADWIN(delta=settings.delta), False
    values = [*earlier, *new]
    for value in values:
        detector.update(value)
        detected |= bool(detector.drift_detected)
    kept = values[-min(int(detector.width), settings.window) :] if values else []
    return StreamChange(detected, [round(v, 4) for v in kept], _mean(earlier or new), _mean(kept))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")

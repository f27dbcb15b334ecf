"""The images of one request on their way to the client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from catimage.serving.messages import ServedEvent
from catimage.serving.tasks import FinishedImage, Preview


class Delivery:
    """Passes previews and images on.

    A response has the images of one candidate. Without ``stream``, finished images are kept until
    the last one is finished, so that another candidate can make all of them when the first one
    fails. With ``stream``, each image is passed on when it is finished; after the first one, no
    other candidate may answer, and only the missing images are generated again.

    Args:
        n: number of images of the request.
        emit: receives the events.
        stream: whether images are passed on at once.
    """

    def __init__(self, n: int, emit: Callable[[ServedEvent], None], stream: bool) -> None:
        self._n, self._emit, self._stream = n, emit, stream
        self._images: dict[int, FinishedImage] = {}
        self._candidate = ""

    def allows(self, candidate: str) -> bool:
        """Return whether a candidate may answer."""
        return not (self._stream and self._images) or candidate == self._candidate

    def begin(self, candidate: str) -> list[int]:
        """Begin an attempt of a candidate, and return the positions of the missing images."""
        missing = self.missing(candidate)
        if candidate != self._candidate:
            self._candidate, self._images = candidate, {}
        return missing

    def missing(self, candidate: str) -> list[int]:
        """Return the positions of the images that a candidate would have to make."""
        finished = self._images if candidate == self._candidate else {}
        return [i for i in range(self._n) if i not in finished]

    def receive(self, event: Preview | FinishedImage, positions: list[int]) -> None:
        """Receive an event of a task.

        Args:
            event: a preview or an image, whose index is that in the task.
            positions: the position in the request of each image of the task.
        """
        event = replace(event, index=positions[event.index])
        if isinstance(event, FinishedImage):
            self._images[event.index] = event
            if not self._stream:
                return
        self._emit(event)

    def finish(self) -> None:
        """Pass the images on that were kept, in order."""
        if not self._stream:
            for i in sorted(self._images):
                self._emit(self._images[i])

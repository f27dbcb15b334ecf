"""Execution in this process, one shard after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

ShardT = TypeVar("ShardT")
ResultT = TypeVar("ResultT")
Progress = Callable[[int], object]
"""Called with the number of images that were finished since the last call."""


class LocalExecutor:
    """Calls a function for each shard and shows the number of finished images.

    Example::

        with LocalExecutor("label", images=1000) as executor:
            scores = executor.map(score_shard, shards)

    Args:
        description: the label of the progress bar.
        images: the total number of images.
        finished: the number of images that are finished already.
    """

    def __init__(self, description: str, images: int, finished: int = 0) -> None:
        self._bar = tqdm(total=images, initial=finished, unit="image", desc=description)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def map(
        self, function: Callable[[ShardT, Progress], ResultT], shards: Iterable[ShardT]
    ) -> list[ResultT]:
        """Return ``function(shard, progress)`` for every shard, in order.

        The function calls ``progress`` with the number of images after each batch. An exception
        ends the iteration.
        """
        return [function(shard, self._bar.update) for shard in shards]

"""Execution of a function for each shard, in this process, one shard after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

ShardT = TypeVar("ShardT")
ResultT = TypeVar("ResultT")
Progress = Callable[[int], object]
"""A function that is called with the number of images finished since the previous call."""


class LocalExecutor:
    """Calls a function for each shard and shows the number of finished images as a progress bar.

    Example::

        with LocalExecutor("label", images=1000) as executor:
            scores = executor.map(score_shard, shards)

    Args:
        description: label of the progress bar.
        images: total number of images.
        finished: number of images that were finished before, in an earlier run of the stage.
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
        """Return ``function(shard, progress)`` for every shard, in the order of the shards.

        Args:
            function: receives a shard and a function ``progress``, which it has to call with the
                number of finished images after each batch. The next shards are not processed if it
                raises an exception.
            shards: the shards.
        """
        return [function(shard, self._bar.update) for shard in shards]

"""The report of refused images after a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from catimage.data.shards.manifest import ShardEntry
from catimage.errors import InputError


def report_refusals(entries: Sequence[ShardEntry]) -> None:
    """Check that every candidate has images, and print the number of refused images.

    Raises:
        InputError: all images of a candidate were refused.
    """
    images, refused = Counter[str](), Counter[str]()
    for entry in entries:
        images[entry.candidate] += entry.images
        refused[entry.candidate] += entry.refused
    for candidate, count in refused.items():
        if count and not images[candidate]:
            raise InputError(
                f"generate: all {count} images of the candidate {candidate!r} were refused. Correct"
                " or remove the candidate, or change the prompts."
            )
    if refused.total():
        counts = ", ".join(f"{name} {count}" for name, count in refused.items() if count)
        print(
            f"generate: {refused.total()} of {refused.total() + images.total()} images were refused"
            f" ({counts}). They have no scores, and estimators are trained without them.",
            flush=True,
        )

"""Parts of the applications of the processes that need no service."""

from __future__ import annotations

import gc

from catimage.serving.bento.applications import _exclude_libraries_from_collection


def test_the_objects_of_libraries_are_excluded_from_garbage_collections() -> None:
    try:
        _exclude_libraries_from_collection()
        assert gc.get_freeze_count() > 10_000 > len(gc.get_objects())
    finally:
        gc.unfreeze()

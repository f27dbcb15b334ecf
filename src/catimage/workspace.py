"""Where things lie in a workspace, and how a stage replaces an output without ever leaving half of
one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The paths of a workspace. Nothing is made before it is written."""

    root: Path

    @property
    def params(self) -> Path:
        """``params.yaml``."""
        return self.root / "params.yaml"

    @property
    def pools(self) -> Path:
        """The workspace's own pools, which go before the package's."""
        return self.root / "pools"

    @property
    def prompts(self) -> Path:
        """The prompts table."""
        return self.root / "data" / "prompts.parquet"

    @property
    def candidates(self) -> Path:
        """The candidates table."""
        return self.root / "data" / "candidates.parquet"

    @property
    def scores(self) -> Path:
        """The scores table."""
        return self.root / "data" / "scores.parquet"

    @property
    def images(self) -> Path:
        """Image shards and their manifest."""
        return self.root / "data" / "images"

    def embeddings(self, encoder: str) -> Path:
        """Embeddings of the prompts by the named encoder."""
        return self.root / "data" / "embeddings" / encoder

    @property
    def estimators(self) -> Path:
        """``models/estimators/<metric>/<name>/``."""
        return self.root / "models" / "estimators"

    @property
    def router(self) -> Path:
        """The calibrated router."""
        return self.root / "models" / "router"

    @property
    def reports(self) -> Path:
        """Validation, metrics, plots and the report."""
        return self.root / "reports"

    @property
    def dist(self) -> Path:
        """The exported Bento."""
        return self.root / "dist"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of ``path`` (file or folder) to write to; it takes the place of ``path``
    when the block ends well.

    When the block raises, the sibling is removed and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (
        path.with_name(f".{path.name}.{os.getpid()}.new"),
        path.with_name(f".{path.name}.{os.getpid()}.old"),
    )
    _remove(fresh)
    try:
        yield fresh
        if path.is_dir():
            path.rename(old)
        fresh.replace(path)
    finally:
        _remove(fresh)
        if old.exists() and not path.exists():
            old.rename(path)
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""The paths of a workspace, the names of the stages, and atomic replacement of outputs."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from catimage.common.replacement import remove, remove_leftovers, replace, temporary_path

STAGES = ("sample", "generate", "label", "validate", "train", "calibrate", "evaluate", "package")
"""The stages in the order in which they run."""


@dataclass(frozen=True)
class Workspace:
    """The paths of the files in a workspace. Creating an instance creates no folder.

    Attributes:
        root: the folder with ``params.yaml``, ``data/``, ``models/`` and ``reports/``.
    """

    root: Path

    @property
    def params(self) -> Path:
        """The parameters, ``params.yaml``."""
        return self.root / "params.yaml"

    @property
    def pools(self) -> Path:
        """The folder of the pools of the workspace, which take precedence over packaged pools."""
        return self.root / "pools"

    @property
    def prompts(self) -> Path:
        """The prompts table, ``data/prompts.parquet``."""
        return self.root / "data" / "prompts.parquet"

    @property
    def traffic(self) -> Path:
        """The folder of what ``catimage intake`` has taken from the decision log."""
        return self.root / "data" / "traffic"

    @property
    def traffic_prompts(self) -> Path:
        """The prompts that were taken from the decision log, ``data/traffic/prompts.parquet``."""
        return self.traffic / "prompts.parquet"

    @property
    def outcomes(self) -> Path:
        """Logged decisions with the scores of their images, ``data/traffic/outcomes.parquet``."""
        return self.traffic / "outcomes.parquet"

    @property
    def candidates(self) -> Path:
        """The candidates table, ``data/candidates.parquet``."""
        return self.root / "data" / "candidates.parquet"

    @property
    def scores(self) -> Path:
        """The scores table, ``data/scores.parquet``."""
        return self.root / "data" / "scores.parquet"

    @property
    def images(self) -> Path:
        """The folder of the image shards (files of images) and of the manifest that lists them."""
        return self.root / "data" / "images"

    def embeddings(self, encoder: str) -> Path:
        """Return the folder of the prompt embeddings by the text encoder named ``encoder``."""
        return self.root / "data" / "embeddings" / encoder

    @property
    def estimators(self) -> Path:
        """The folder of the trained estimators; their subfolders are ``<metric>/<name>/``."""
        return self.root / "models" / "estimators"

    @property
    def router(self) -> Path:
        """The folder of the calibrated router."""
        return self.root / "models" / "router"

    @property
    def audits(self) -> Path:
        """The audited images of logged prompts, ``data/audits.parquet``."""
        return self.root / "data" / "audits.parquet"

    @property
    def counted_costs(self) -> Path:
        """Counted costs of earlier runs of stage generate, ``.catimage/counted_costs.json``."""
        return self.root / ".catimage" / "counted_costs.json"

    @property
    def monitor_state(self) -> Path:
        """The state of the monitor between its runs, ``.catimage/monitor.json``."""
        return self.root / ".catimage" / "monitor.json"

    @property
    def champion_labels(self) -> Path:
        """Labels that the champion was trained on, ``data/champion_labels.parquet``."""
        return self.root / "data" / "champion_labels.parquet"

    @property
    def reports(self) -> Path:
        """The folder of the results of validation and evaluation: JSON files, plots and report."""
        return self.root / "reports"

    @property
    def dist(self) -> Path:
        """The folder of the exported Bento."""
        return self.root / "dist"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace the file or folder ``path`` if the ``with`` block succeeds.

    A kill at any time leaves the old or the new version at ``path``. The new version is flushed to
    disk before it gets the name.

    Yields:
        A temporary path in the same folder, to which the block writes the new content. At the end
        of the block, it replaces ``path`` (:func:`catimage.common.replacement.replace`). If the
        block raises an exception, the temporary path is removed and ``path`` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.name)
    new = temporary_path(path)
    try:
        yield new
        replace(new, path)
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(str(new)):
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        remove(new)


def check_free_space(folder: Path, size: int) -> None:
    """Check the free space on a disk, before a library that reports a full disk unclearly writes.

    Args:
        folder: an existing folder on the disk.
        size: the space that is needed, in bytes.

    Raises:
        OSError: there is less free space.
    """
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

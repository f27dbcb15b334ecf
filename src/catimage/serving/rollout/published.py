"""Loads a published router from the shared state."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from catimage.common.hashing import folder_digest
from catimage.errors import InputError
from catimage.router import Router
from catimage.serving.decisions.versions import RouterVersion
from catimage.serving.rollout.archive import unpack
from catimage.serving.state.rollouts import Rollout, Rollouts


def load_published(rollouts: Rollouts, rollout: Rollout) -> RouterVersion:
    """Return a published router, ready for decisions. Takes seconds.

    Args:
        rollouts: the shared state.
        rollout: the router to load.

    Raises:
        InputError: the archive is damaged, its files are not those of the registry, or this
            version of CATImage cannot load them.
        ServingError: the database cannot be used (503).
    """
    data = rollouts.archive(rollout)
    with TemporaryDirectory(prefix="catimage-router-") as folder:
        path = Path(folder)
        unpack(data, path)
        if folder_digest(path) != rollout.digest:
            raise InputError(
                f"rollout: the files of router version {rollout.version} differ from those that"
                " were registered. Publish it again with 'catimage promote'."
            )
        version = RouterVersion(rollout.version, Router.load(path))
        version.warm_up()
    return version

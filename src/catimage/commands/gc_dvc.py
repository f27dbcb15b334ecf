"""Files in the cache of DVC that ``catimage gc`` can remove."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from catimage.common.garbage import Garbage
from catimage.errors import InputError
from catimage.workspace import Workspace

if TYPE_CHECKING:
    from dvc.repo import Repo

_OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")


@contextmanager
def dvc_repository(workspace: Workspace, locked: bool) -> Iterator[Repo | None]:
    """Open the DVC repository of a workspace; None if there is none.

    Args:
        workspace: the workspace.
        locked: whether other processes of DVC may not use the repository meanwhile.

    Raises:
        InputError: another process of DVC uses the repository.
    """
    if find_spec("dvc") is None:
        yield None
        return
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        repository = Repo(str(workspace.root.resolve()))
    except NotDvcRepoError:
        yield None
        return
    with repository:
        if not locked:
            yield repository
            return
        try:
            repository.lock.lock()
        except LockError as error:
            raise InputError(
                f"{workspace.root}: another process of DVC is running. Wait for that process to"
                " end, then run the command again."
            ) from error
        try:
            yield repository
        finally:
            repository.lock.unlock()


def cache_garbage(
    repository: Repo, commits: int, before: float, hashes: Collection[str]
) -> list[Garbage]:
    """Return the files of the cache that can be removed.

    Kept are the outputs of the workspace, of the last commits and of all experiments.

    Args:
        repository: the repository.
        commits: the number of the last commits of git.
        before: the time before which the removed files were changed, in seconds since the epoch.
        hashes: MD5 hashes of further outputs that are kept, those of folders with ``.dir``.
    """
    cache = Path(repository.cache.local.path)
    used = _used(repository, commits)
    for name in hashes:
        used |= {name, *_files_of(cache, name)}
    found = []
    for path in sorted(cache.glob("[0-9a-f][0-9a-f]/*")):
        stat = path.lstat()
        old = max(stat.st_mtime, stat.st_ctime) < before
        if old and _OBJECT.fullmatch(path.name) and path.parent.name + path.name not in used:
            found.append(Garbage("DVC cache", path.name, stat.st_size, path.unlink))
    return found


def _used(repository: Repo, commits: int) -> set[str]:
    """Return the hashes of the outputs of the workspace, of commits and of experiments."""
    from dvc.scm import NoSCM

    history = not isinstance(repository.scm, NoSCM) and _has_commits(repository)
    revisions = {"revs": ["HEAD"], "num": commits, "all_experiments": True} if history else {}
    with _fewer_messages():
        objects = repository.used_objs(**revisions)
    return {str(item.value) for found in objects.values() for item in found}


@contextmanager
def _fewer_messages() -> Iterator[None]:
    """Silence the warnings of DVC about outputs without a hash, of stages that have never run."""
    logger = logging.getLogger("dvc.output")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _has_commits(repository: Repo) -> bool:
    from scmrepo.exceptions import SCMError

    with suppress(SCMError):
        return bool(repository.scm.get_rev())
    return False


def _files_of(cache: Path, name: str) -> set[str]:
    """Return the hashes of the files in a folder whose hash is in the cache."""
    path = cache / name[:2] / name[2:]
    if not name.endswith(".dir") or not path.exists():
        return set()
    return {str(entry["md5"]) for entry in json.loads(path.read_text())}

"""Replacement of several files and folders of a workspace: all of them or none.

Before the first file is replaced, a journal lists the new versions, which are complete and flushed
to disk. If the process is killed before the journal is written, nothing has changed; if it is
killed afterwards, :func:`complete` replaces the remaining files. An exception restores the previous
versions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from catimage.common.hashing import version_digest
from catimage.common.replacement import remove, replace, swap, sync, sync_folder, temporary_path
from catimage.errors import InputError

JOURNAL = Path(".catimage") / "transaction.json"
"""The journal, relative to the root of the workspace."""
_LOCK = Path(".catimage") / "transaction.lock"
_WAIT_SECONDS = 120


@dataclass(frozen=True)
class _Replacement:
    """A file or folder to replace.

    Attributes:
        target: its path.
        staged: the new version before, and the old version after the replacement.
        digest: the digest of the new version; None if the target is to be removed.
    """

    target: Path
    staged: Path
    digest: str | None


@contextmanager
def replacing_together(
    root: Path, sources: Mapping[Path, Path | None], dvc_stages: Sequence[str] = ()
) -> Iterator[None]:
    """Replace files and folders, and restore all of them if the ``with`` block fails.

    The block runs after the replacement. If the process is killed in the block, :func:`complete`
    runs its equivalent.

    Args:
        root: the root of the workspace.
        sources: the new version of each file and folder, by target; it is moved. None removes the
            target.
        dvc_stages: the stages that the block commits to DVC, for :func:`complete`.

    Raises:
        InputError: another process replaces files of the workspace at the same time, or was killed
            while it did so after this command had begun.
    """
    with _lock(root):
        if is_pending(root):  # the results of this command may be those of other files
            problem = "another command was interrupted while it replaced files"
            raise InputError(f"{root / JOURNAL}: {problem}. Run the command again to complete it.")
        replacements: list[_Replacement] = []
        n_begun = n_applied = 0
        try:
            for target, source in sources.items():
                replacements.append(_stage(target, source))
            _write_journal(root, replacements, dvc_stages)
            for item in replacements:
                n_begun += 1
                swap(item.staged, item.target)
                n_applied += 1
            _sync_folders(replacements)
            yield
        except BaseException:
            _restore(replacements[:n_begun], n_applied)
            _finish(root, replacements)
            raise
        _finish(root, replacements)


@contextmanager
def written_together(
    root: Path, targets: Sequence[Path], removed: Sequence[Path] = ()
) -> Iterator[dict[Path, Path]]:
    """Write several files and folders: all replace their targets if the ``with`` block succeeds.

    Args:
        root: the root of the workspace.
        targets: the files and folders.
        removed: files and folders that are removed at the same time.

    Yields:
        The temporary path to which the block writes the new version of each target.
    """
    new = {target: temporary_path(target) for target in targets}
    for target, path in new.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(path)
    try:
        yield new
        outdated = dict.fromkeys(path for path in removed if path.exists())
        with replacing_together(root, {**new, **outdated}):
            pass
    except OSError as error:
        for target, path in new.items():  # the name that the user knows
            if error.filename is None or str(error.filename).startswith(str(path)):
                error.filename = str(target)
        raise
    finally:
        if not is_pending(root):  # otherwise the next command removes them
            for path in new.values():
                remove(path)


def is_pending(root: Path) -> bool:
    """Return whether a killed process, or one that still runs, has left a journal."""
    return (root / JOURNAL).exists()


def pending_dvc_stages(root: Path) -> list[str]:
    """Return the stages that :func:`complete` will commit to DVC."""
    return _read_journal(root)[1] if is_pending(root) else []


def complete(root: Path, commit: Callable[[Sequence[str]], None]) -> bool:
    """Complete the replacement of a process that was killed.

    Args:
        root: the root of the workspace.
        commit: commits stages to DVC; called with the stages in the journal, if there are any.

    Returns:
        Whether there was anything to complete.

    Raises:
        InputError: a process is still replacing files after two minutes, or a new version that the
            journal lists is missing.
    """
    if not is_pending(root):
        return False
    with _lock(root):
        if not is_pending(root):  # the other process has completed it
            return False
        replacements, dvc_stages = _read_journal(root)
        for item in replacements:
            _apply_again(root, item)
        _sync_folders(replacements)
        if dvc_stages:
            commit(dvc_stages)
        _finish(root, replacements)
    return True


def _stage(target: Path, source: Path | None) -> _Replacement:
    """Move a new version to a temporary name beside its target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = temporary_path(target)
    if source != staged:
        remove(staged)
    if source is None:
        return _Replacement(target, staged, None)
    try:
        if source != staged:
            shutil.move(source, staged)
        sync(staged)
        return _Replacement(target, staged, version_digest(staged))
    except BaseException:
        remove(staged)
        raise


def _restore(begun: Sequence[_Replacement], n_applied: int) -> None:
    """Exchange the names again; the last exchange may have been interrupted before or after it."""
    for i, item in reversed(list(enumerate(begun))):
        if i < n_applied or version_digest(item.target) == item.digest:
            swap(item.staged, item.target)


def _apply_again(root: Path, item: _Replacement) -> None:
    """Replace a target, unless the killed process has replaced it."""
    if version_digest(item.target) == item.digest:
        return
    if version_digest(item.staged) != item.digest:
        raise InputError(
            f"{item.target}: a command was interrupted, and {item.staged}, the new version, is"
            f" missing or damaged. Delete {root / JOURNAL} and run the command again."
        )
    swap(item.staged, item.target)


def _finish(root: Path, replacements: Sequence[_Replacement]) -> None:
    """Remove the journal, and then the staged versions."""
    journal = root / JOURNAL
    if journal.exists():
        journal.unlink()
        sync_folder(journal.parent)
    for item in replacements:
        with suppress(OSError):  # the next command removes it
            remove(item.staged)


def _sync_folders(replacements: Sequence[_Replacement]) -> None:
    for folder in {item.target.parent for item in replacements}:
        sync_folder(folder)


def _write_journal(
    root: Path, replacements: Sequence[_Replacement], dvc_stages: Sequence[str]
) -> None:
    rows = []
    for item in replacements:
        target, staged = (str(path.relative_to(root)) for path in (item.target, item.staged))
        rows.append({"target": target, "staged": staged, "digest": item.digest})
    new = temporary_path(root / JOURNAL)
    try:
        new.write_text(json.dumps({"replace": rows, "dvc_stages": list(dvc_stages)}, indent=1))
        replace(new, root / JOURNAL)
    finally:
        remove(new)


def _read_journal(root: Path) -> tuple[list[_Replacement], list[str]]:
    document = json.loads((root / JOURNAL).read_text())
    rows = [
        _Replacement(root / row["target"], root / row["staged"], row["digest"])
        for row in document["replace"]
    ]
    return rows, document["dvc_stages"]


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Hold the lock of the journal."""
    path = root / _LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=_WAIT_SECONDS):
            yield
    except Timeout as error:
        raise InputError(
            f"{root}: another process has been replacing files for {_WAIT_SECONDS} s. Wait for that"
            " process to end, or stop it."
        ) from error

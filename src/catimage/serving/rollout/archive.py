"""The folder of a router as one archive (zip), which is unpacked without trust in its content."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from catimage.errors import InputError

MAX_BYTES = 512 * 1024**2
"""Maximum total size of the files of a router."""
MAX_FILES = 1000
"""Maximum number of files of a router."""
_CHUNK = 1024**2
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path) -> bytes:
    """Return the files of a folder as an archive; equal folders have equal archives.

    Raises:
        InputError: the folder is empty, or too large.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    if not files:
        raise InputError(f"{folder}: there are no files. Run 'catimage calibrate' first.")
    _check_size(len(files), sum(path.stat().st_size for path in files))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Write the files of an archive to an empty folder.

    Args:
        data: the archive.
        folder: an existing folder.

    Raises:
        InputError: the archive is damaged or too large, or has an entry that is not a file below
            the folder.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_size(len(entries), sum(entry.file_size for entry in entries))
            left = MAX_BYTES
            for entry in entries:
                left = _extract(archive, entry, folder, left)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            "rollout: the archive of the router is damaged. Publish it again with 'catimage"
            " promote'."
        ) from error


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, left: int) -> int:
    """Write one file of at most ``left`` bytes; return how many more bytes may be written."""
    name = PurePosixPath(entry.filename)
    linked = stat.S_ISLNK(entry.external_attr >> 16)
    outside = name.is_absolute() or ".." in name.parts
    if linked or outside or set("\\:\0") & set(entry.orig_filename):
        raise InputError(
            f"rollout: the archive of the router has the entry {entry.filename!r}, which is not a"
            " file below its folder. Publish the router with 'catimage promote'."
        )
    path = folder.joinpath(*name.parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, path.open("xb") as target:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                _check_size(1, MAX_BYTES + 1)
            target.write(chunk)
    return left


def _check_size(files: int, size: int) -> None:
    if files > MAX_FILES or size > MAX_BYTES:
        raise InputError(
            f"rollout: the router has more than {MAX_FILES} files or {MAX_BYTES // 1024**2} MiB."
            " Publish a smaller router."
        )

"""The wheel of the running code, and pinned requirements, for registered models and Bentos.

CATImage may be on no package index, so a registered model and a Bento contain its wheel. The wheel
is assembled from the files of the imported package and from the metadata of the installed
distribution (PyPA binary distribution format), in a checkout and in an installation alike. No build
backend and no network access is needed.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import catimage
from catimage.errors import InputError

PACKAGE = Path(catimage.__file__).parent
"""The folder of the imported package."""
READERS = (
    "numpy",
    "open_clip_torch",
    "pandas",
    "pyarrow",
    "safetensors",
    "scikit-learn",
    "scipy",
    "skops",
    "torch",
    "transformers",
)
"""Packages that read the files of a router or compute with them. A stored estimator must be loaded
with the versions that it was saved with.
"""
_DATE = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: catimage\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(folder: Path) -> Path:
    """Write the wheel of the running code to ``folder``.

    Equal code gives equal bytes.

    Args:
        folder: an existing folder.

    Returns:
        The path of the wheel, which has the file name that pip requires.

    Raises:
        InputError: CATImage is imported, but not installed.
    """
    installed = _distribution()
    info = f"catimage-{installed.version}.dist-info"
    path = folder / f"catimage-{installed.version}-py3-none-any.whl"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    with ZipFile(path, "w") as wheel:
        for name, content in _content(installed, info):
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            rows.writerow([name, f"sha256={digest.rstrip('=')}", len(content)])
            _add(wheel, name, content)
        rows.writerow([f"{info}/RECORD", "", ""])
        _add(wheel, f"{info}/RECORD", record.getvalue().encode())
    return path


def pinned(*packages: str) -> list[str]:
    """Return a requirement with the installed version of each package, ``NAME==VERSION``.

    The local part of a version, such as ``+cpu``, is left out, because no public index has it.
    """
    return [f"{name}=={version(name).partition('+')[0]}" for name in packages]


def _distribution() -> Distribution:
    try:
        return distribution("catimage")
    except PackageNotFoundError as error:
        raise InputError(
            f"catimage: imported from {PACKAGE}, but not installed. Run 'pip install"
            f" {PACKAGE.parents[1]}', or 'make setup' in a checkout."
        ) from error


def _content(installed: Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file of the wheel, without the record."""
    yield from _files(PACKAGE, "catimage")
    for name in ("METADATA", "entry_points.txt"):
        if text := installed.read_text(name):
            yield f"{info}/{name}", text.encode()
    for file in installed.files or []:
        if file.parts[0].endswith(".dist-info") and "licenses" in file.parts:
            yield "/".join([info, *file.parts[1:]]), Path(str(file.locate())).read_bytes()
    yield f"{info}/WHEEL", _WHEEL.encode()


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name, which starts with ``prefix``, and the content of each file in a folder."""
    walked = os.walk(folder, followlinks=True)  # catimage/flows is a link in a checkout
    for path in sorted(Path(root, name) for root, _, names in walked for name in names):
        relative = path.relative_to(folder)
        if path.suffix != ".pyc" and "__pycache__" not in relative.parts:
            yield f"{prefix}/{relative.as_posix()}", path.read_bytes()


def _add(wheel: ZipFile, name: str, content: bytes) -> None:
    """Add a file with a constant date; model weights are not compressed."""
    entry = ZipInfo(name, _DATE)
    entry.external_attr = 0o644 << 16
    entry.compress_type = ZIP_STORED if name.endswith(".safetensors") else ZIP_DEFLATED
    wheel.writestr(entry, content)

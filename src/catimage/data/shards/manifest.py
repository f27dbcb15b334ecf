"""The manifest says which shards are live. It is written last; what it does not list is ignored,
and collected.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from catimage.data.shards.plan import PROTOCOL
from catimage.data.shards.store import shard_path, sync_folder
from catimage.errors import InputError
from catimage.workspace import replacing

NAME = "manifest.json"


@dataclass(frozen=True)
class Entry:
    """One live shard: its name (the hash of its plan), candidate, number of images, and image
    digest.
    """

    shard: str
    candidate: str
    images: int
    digest: str


def write_manifest(folder: Path, entries: list[Entry]) -> None:
    """Writes ``folder/manifest.json``, sorted, whole or not at all."""
    rows = sorted((asdict(e) for e in entries), key=lambda e: (e["candidate"], e["shard"]))
    with replacing(folder / NAME) as fresh:
        fresh.write_text(json.dumps({"protocol": PROTOCOL, "shards": rows}, indent=1) + "\n")
    sync_folder(folder)


def read_manifest(folder: Path) -> list[Entry]:
    """The live shards.

    Raises:
        InputError: the manifest is missing, not readable or empty.
    """
    path = folder / NAME
    try:
        entries = [Entry(**row) for row in json.loads(path.read_text())["shards"]]
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there: run 'catimage generate' first.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a readable manifest: run 'catimage generate' again."
        ) from error
    if not entries:
        raise InputError(f"{path} lists no shards: run 'catimage generate' again.")
    return entries


def collect(folder: Path, entries: list[Entry]) -> int:
    """Deletes shards that are not live and what interrupted runs left half-written; returns how
    many files.
    """
    live = {shard_path(folder, e.shard) for e in entries}
    stale = [
        p for pattern in ("*.parquet", ".*.new") for p in folder.glob(pattern) if p not in live
    ]
    for path in stale:
        path.unlink()
    return len(stale)

"""Where prompts come from: the scene grammar of the tiny pool, and files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catimage.data.importers.delimited import read_columns, read_text
from catimage.data.prompts.cleaning import clean
from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError, nearest
from catimage.params import FileSource, SceneSource
from catimage.scenes.grammar import draw_scene

DRAWS = 100
"""Scenes drawn a caption wanted before the grammar counts as exhausted."""


@dataclass(frozen=True)
class Sourced:
    """The distinct prompts of a source, normalised, in its order; ``read`` counts what it gave,
    ``too_long`` what was left out as such.
    """

    name: str
    prompts: list[str]
    read: int
    too_long: int = 0


def read_source(source: SceneSource | FileSource, root: Path, longest: int) -> Sourced:
    """The prompts of a source. A file's path is relative to ``root``; prompts of more than
    ``longest`` characters are left out.

    Raises:
        InputError: a file that is missing, empty, of an unknown kind, not UTF-8, or without the
            column; a prompt that :func:`catimage.data.prompts.cleaning.clean` refuses, with its
            row; a grammar asked for more captions than it has.
    """
    return (
        _scenes(source, longest)
        if isinstance(source, SceneSource)
        else _file(source, root, longest)
    )


def _scenes(source: SceneSource, longest: int) -> Sourced:
    """Draws scenes until ``count`` captions differ; the same seed gives the same captions, and a
    higher count adds to them.
    """
    rng = np.random.default_rng(source.seed)
    captions: dict[str, None] = {}
    for _ in range(DRAWS * source.count):
        captions.setdefault(clean(draw_scene(rng).caption(), "scenes"))
        if len(captions) == source.count:
            short = [caption for caption in captions if len(caption) <= longest]
            return Sourced("scenes", short, source.count, source.count - len(short))
    raise InputError(
        f"sample.sources: the scene grammar gave {len(captions):,} captions of the {source.count:,}"
        " asked for: lower count."
    )


def _file(source: FileSource, root: Path, longest: int) -> Sourced:
    path = root / source.path
    readers = {".csv": _csv, ".tsv": _tsv, ".txt": _txt, ".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise InputError(
            f"{path}: prompts are read from {', '.join(readers)} files: convert it, or rename it if"
            " it is one."
        )
    found: dict[str, str] = {}
    read = too_long = 0
    for row, text in islice(readers[path.suffix.lower()](path, source.column), source.limit):
        read += 1
        prompt = clean(text, f"{path}: row {row}")
        if len(prompt) > longest:
            too_long += 1
        else:
            found.setdefault(prompt_id(prompt), prompt)
    return Sourced(path.name, list(found.values()), read, too_long)


def _csv(path: Path, column: str) -> Iterator[tuple[int, str]]:
    rows = read_columns(path, [column])
    return zip(rows.line_numbers, rows.columns[column], strict=True)


def _tsv(path: Path, column: str) -> Iterator[tuple[int, str]]:
    rows = read_columns(path, [column], tabs=True)
    return zip(rows.line_numbers, rows.columns[column], strict=True)


def _txt(path: Path, column: str) -> Iterator[tuple[int, str]]:
    """A prompt a line; a blank line is none."""
    return ((row, line) for row, line in enumerate(read_text(path).split("\n"), 1) if line.strip())


def _jsonl(path: Path, column: str) -> Iterator[tuple[int, str]]:
    for row, line in _txt(path, column):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}: row {row} is not JSON ({error}): each line must be one object."
            ) from error
        if not isinstance(entry, dict) or column not in entry:
            near = nearest(column, list(entry)) if isinstance(entry, dict) else ""
            raise InputError(
                f"{path}: row {row} lacks the key {column!r}{near}: add it, or name another column."
            )
        if not isinstance(entry[column], str):
            raise InputError(
                f"{path}: row {row}: {column!r} is {entry[column]!r}, not text: mend or remove the"
                " row."
            )
        yield row, entry[column]


def _parquet(path: Path, column: str) -> Iterator[tuple[int, str]]:
    """Rows are counted from 1; a null is an empty prompt."""
    if not path.exists():
        raise InputError(f"{path} is not there: check the path.")
    try:
        names = pq.read_schema(path).names
        values = pq.read_table(path, columns=[column]).column(column) if column in names else None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a readable parquet file ({error}).") from error
    if values is None:
        raise InputError(
            f"{path} lacks the column {column!r}{nearest(column, names)}; its columns are"
            f" {', '.join(names)}."
        )
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise InputError(
            f"{path}: the column {column!r} holds {values.type}, not text: name another column."
        )
    if len(values) == 0:
        raise InputError(f"{path} is empty: it needs at least one row.")
    return ((row, value or "") for row, value in enumerate(values.to_pylist(), 1))

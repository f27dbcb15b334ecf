"""Sources of prompts: the scene grammar of the embedded pool, and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
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
from catimage.scenes.grammar import sample_scene

MAX_DRAWS = 100
"""The number of draws per requested caption after which an error is raised."""


@dataclass(frozen=True)
class SourcePrompts:
    """The prompts of one source.

    Attributes:
        name: ``scenes``, or the name of the file.
        prompts: distinct normalised prompts, in the order of the source.
        n_read: the number of prompts that were read.
        n_too_long: the number of prompts that were omitted because of their length.
    """

    name: str
    prompts: list[str]
    n_read: int
    n_too_long: int = 0


def read_source(source: SceneSource | FileSource, root: Path, max_length: int) -> SourcePrompts:
    """Read the prompts of a source.

    Args:
        source: an entry of ``sample.sources``.
        root: the folder that relative paths start from.
        max_length: prompts with more characters are omitted.

    Raises:
        InputError: the file is missing, empty, of an unknown format or not UTF-8, or lacks the
            column ``source.column``; a prompt is invalid
            (:func:`catimage.data.prompts.cleaning.clean`); or the grammar has fewer captions than
            requested.
    """
    if isinstance(source, SceneSource):
        return _draw_captions(source, max_length)
    return _read_file(source, root, max_length)


def _draw_captions(source: SceneSource, max_length: int) -> SourcePrompts:
    """Draw scenes until there are ``count`` distinct captions.

    Equal seeds give equal captions, and a higher count adds captions at the end.
    """
    rng = np.random.default_rng(source.seed)
    captions: dict[str, None] = {}
    for _ in range(MAX_DRAWS * source.count):
        captions.setdefault(clean(sample_scene(rng).caption(), "scenes"))
        if len(captions) == source.count:
            short = [caption for caption in captions if len(caption) <= max_length]
            return SourcePrompts("scenes", short, source.count, source.count - len(short))
    raise InputError(
        f"sample.sources: the scene grammar gave {len(captions):,} distinct captions, fewer than"
        f" the count of {source.count:,}. Lower the count."
    )


def _read_file(source: FileSource, root: Path, max_length: int) -> SourcePrompts:
    path = root / source.path
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: unknown file format. Convert the file to one of {', '.join(_READERS)}."
        )
    prompts: dict[str, str] = {}
    n_read = n_too_long = 0
    for row, text in islice(reader(path, source.column), source.limit):
        n_read += 1
        prompt = clean(text, f"{path}: row {row}")
        if len(prompt) > max_length:
            n_too_long += 1
        else:
            prompts.setdefault(prompt_id(prompt), prompt)
    return SourcePrompts(path.name, list(prompts.values()), n_read, n_too_long)


def _read_delimited(path: Path, column: str, tabs: bool) -> Iterator[tuple[int, str]]:
    table = read_columns(path, [column], tabs=tabs)
    return zip(table.line_numbers, table.columns[column], strict=True)


def _read_lines(path: Path, column: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is not blank."""
    lines = enumerate(read_text(path).split("\n"), 1)
    return ((row, line) for row, line in lines if line.strip())


def _read_jsonl(path: Path, column: str) -> Iterator[tuple[int, str]]:
    for row, line in _read_lines(path, column):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}: row {row} is not JSON ({error}). Write one object per line."
            ) from error
        if not isinstance(entry, dict) or column not in entry:
            suggestion = nearest(column, list(entry)) if isinstance(entry, dict) else ""
            raise InputError(
                f"{path}: row {row} has no key {column!r}{suggestion}. Add the key, or set 'column'"
                " of the source to another key."
            )
        if not isinstance(entry[column], str):
            raise InputError(
                f"{path}: row {row}: {column!r} is {entry[column]!r}, not text. Correct or remove"
                " the row."
            )
        yield row, entry[column]


def _read_parquet(path: Path, column: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each row, counted from 1, and its text; null becomes an empty text."""
    if not path.exists():
        raise InputError(f"{path}: file not found. Check the path.")
    try:
        names = pq.read_schema(path).names
        values = pq.read_table(path, columns=[column]).column(column) if column in names else None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path}: not a readable parquet file ({error}). Write the file again."
        ) from error
    if values is None:
        raise InputError(
            f"{path}: the column {column!r} is missing{nearest(column, names)}. Set 'column' of"
            f" the source to one of the columns {', '.join(names)}."
        )
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise InputError(
            f"{path}: the column {column!r} has the type {values.type}, not text. Set 'column' of"
            " the source to a column of text."
        )
    if len(values) == 0:
        raise InputError(f"{path}: the file is empty. Add at least one row.")
    return ((row, value or "") for row, value in enumerate(values.to_pylist(), 1))


_READERS: dict[str, Callable[[Path, str], Iterator[tuple[int, str]]]] = {
    ".csv": partial(_read_delimited, tabs=False),
    ".tsv": partial(_read_delimited, tabs=True),
    ".txt": _read_lines,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
"""By suffix, the function that yields the row number and the text of each prompt in a file."""

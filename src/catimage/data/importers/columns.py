"""Conversion of the columns that users' files have in common: prompts, names, numbers and seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from catimage.common.arrays import Floats, Ints
from catimage.common.names import check_name
from catimage.data.importers.text_table import TextTable, distinct, first_positions
from catimage.data.prompts.cleaning import clean
from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError

SIGNED, UNSIGNED = 2**63, 2**64
"""The numbers above the largest signed and unsigned integers of 64 bits."""


def abbreviated(text: str, length: int = 60) -> str:
    """Return the text, cut to ``length`` characters for a message."""
    return text if len(text) <= length else text[: length - 3] + "..."


def repeated(values: list[str], codes: Ints) -> Any:
    """Return the text at each position ``codes`` in ``values``, as a pandas array (n_rows,)."""
    return pd.array(values, dtype="str").take(codes)


@dataclass(frozen=True)
class PromptTexts:
    """The column ``prompt`` of a file.

    Attributes:
        texts: the distinct texts of the file, in the order of their first rows. Some may differ in
            white space only.
        prompts: the prompt of each text (:func:`catimage.data.prompts.cleaning.clean`).
        ids: the ``prompt_id`` of each text.
        codes: the position of the text of each row, (n_rows,).
        source: the name of the file.
    """

    texts: list[str]
    prompts: list[str]
    ids: list[str]
    codes: Ints
    source: str

    def table(self) -> pd.DataFrame:
        """Return the distinct prompts (``ImportedFile.prompts``)."""
        columns = {"prompt_id": self.ids, "prompt": self.prompts, "source": self.source}
        return pd.DataFrame(columns, dtype="str").drop_duplicates("prompt_id", ignore_index=True)


def parse_prompts(rows: TextTable) -> PromptTexts:
    """Read the column ``prompt``.

    Raises:
        InputError: the column ``prompt`` is missing or not text, or a prompt is invalid
            (:func:`catimage.data.prompts.cleaning.clean`).
    """
    codes, texts = rows.texts("prompt")
    first = first_positions(codes)
    prompts = [clean(text, rows.message_prefix(i)) for text, i in zip(texts, first, strict=True)]
    ids = [prompt_id(prompt) for prompt in prompts]
    return PromptTexts(texts, prompts, ids, codes, rows.path.name)


def parse_texts(rows: TextTable, column: str) -> tuple[Ints, list[str]]:
    """Return the texts of a column without white space around them (as
    :meth:`TextTable.dictionary_encoded`).

    Raises:
        InputError: the column is missing, or a text is empty.
    """
    codes, texts = rows.dictionary_encoded(column)
    if "" in texts:
        prefix = rows.message_prefix(int((codes == texts.index("")).argmax()))
        raise InputError(f"{prefix}: the {column} is empty. Fill it in or remove the row.")
    return codes, texts


def parse_names(rows: TextTable, column: str, slashes: bool = False) -> Any:
    """Return a column of names, (n_rows,).

    Args:
        rows: the file.
        column: the name of the column.
        slashes: whether the names may contain slashes (:func:`catimage.common.names.check_name`).

    Raises:
        InputError: the column is missing, or a name is empty or cannot be the name of a file.
    """
    codes, names = parse_texts(rows, column)
    for name, i in zip(names, first_positions(codes), strict=True):
        check_name(name, f"{rows.message_prefix(i)}: the {column}", slashes)
    return repeated(names, codes)


def parse_numbers(
    rows: TextTable, column: str, expected: str = "a finite number", minimum: float = -math.inf
) -> Floats:
    """Return a column of finite numbers, (n_rows,).

    Args:
        rows: the file.
        column: the name of the column.
        expected: a description of valid numbers, for the message.
        minimum: the smallest valid number.

    Raises:
        InputError: the column is missing, or a number is invalid.
    """
    cells = rows.cells(column)
    values = to_floats(cells, rows.decimal_comma)
    valid = np.isfinite(values) & (values >= minimum)
    if not valid.all():
        raise bad_cell(rows, column, cells, int((~valid).argmax()), expected)
    return values


def to_floats(cells: pa.ChunkedArray, decimal_comma: bool) -> Floats:
    """Convert texts to numbers, (n_rows,), NaN where the text is not a number."""
    cells = pc.utf8_trim_whitespace(cells)
    if decimal_comma:
        cells = pc.replace_substring(cells, ",", ".")
    try:
        return np.asarray(cells.cast(pa.float64()), float)
    except pa.ArrowInvalid:
        codes, texts = distinct(cells)
        return np.array([_to_float(text) for text in texts])[codes]


def _to_float(text: str) -> float:
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def parse_seeds(rows: TextTable) -> Ints:
    """Return the column ``seed``, (n_rows,), as signed integers of 64 bits.

    A seed may be written as a decimal number such as ``0.0``. Seeds of unsigned 64 bits, up to
    2^64 - 1, are represented by the signed integer with the same bits (two's complement), as in the
    schema of the tables.

    Raises:
        InputError: the column is missing, a seed is not an integer of 64 bits, or the column has
            both negative seeds and seeds of 2^63 or more, which could be represented by the same
            integer.
    """
    cells = pc.utf8_trim_whitespace(rows.cells("seed"))
    try:
        return np.asarray(cells.cast(pa.int64()), np.int64)
    except pa.ArrowInvalid:
        codes, texts = distinct(cells)
    seeds = [_to_integer(text) for text in texts]
    invalid = [i for i, seed in enumerate(seeds) if seed is None]
    if invalid:
        position = int((codes == invalid[0]).argmax())
        raise bad_cell(rows, "seed", cells, position, "a whole number of at most 64 bits")
    values = [seed for seed in seeds if seed is not None]
    if min(values) < 0 and max(values) >= SIGNED:
        raise InputError(
            f"{rows.path}: the seeds are between {min(values)} and {max(values)}, which is more"
            " than 64 bits. Number them again."
        )
    signed = [seed - UNSIGNED if seed >= SIGNED else seed for seed in values]
    return np.array(signed, np.int64)[codes]


def _to_integer(text: str) -> int | None:
    """Return the integer of a text such as ``12`` or ``12.0``; None if it is not of 64 bits."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite() or value.adjusted() > 20 or value != value.to_integral_value():
        return None
    return int(value) if -SIGNED <= value < UNSIGNED else None


def parse_or_number_seeds(rows: TextTable, keys: pd.DataFrame) -> Ints:
    """Return the seeds; without a column ``seed``, number the rows that have the same ``keys``.

    Args:
        rows: the file.
        keys: the columns that identify a row apart from the seed, such as prompt and candidate.

    Raises:
        InputError: a seed is invalid (:func:`parse_seeds`).
    """
    if "seed" in rows.names:
        return parse_seeds(rows)
    return np.asarray(keys.groupby(list(keys), sort=False).cumcount(), np.int64)


def bad_cell(
    rows: TextTable, column: str, cells: pa.ChunkedArray, position: int, expected: str
) -> InputError:
    """Return the error about a cell that is not a valid number."""
    text = abbreviated(cells[position].as_py())
    return InputError(
        f"{rows.message_prefix(position)}: the {column} is {text!r}, not {expected}. Correct or"
        " remove the row."
    )

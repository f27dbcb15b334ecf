"""Readers of files that list images (``prompt,candidate,seed,path``) and of image files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from catimage.common.paths import existing_path
from catimage.common.pixels import is_plain, rgb_pixels
from catimage.data.importers.columns import (
    abbreviated,
    parse_names,
    parse_or_number_seeds,
    parse_prompts,
    parse_texts,
)
from catimage.data.importers.imported_file import ImportedFile, check_unique
from catimage.data.importers.spellings import merge_spellings
from catimage.data.importers.tables import read_user_table
from catimage.data.shards.store import encode_image
from catimage.errors import InputError

UNCHANGED_FORMATS = ("PNG", "WEBP", "JPEG")
"""Image files in these formats are stored byte for byte; others are encoded as PNG, as are images
with transparent pixels, 16 bits per channel, CMYK colours or an orientation in their EXIF data.
"""
IGNORED = {
    "cost": "Costs are read from the file of the option --costs only",
    "split": "The split of a prompt is determined by the hash of its text",
}
"""Columns that a user may expect to be read, and what applies instead."""


class ImagesFile(ImportedFile):
    """A file that lists images; ``table`` has ``prompt_id, candidate, seed, path``.

    A relative path in the file starts from the folder of the file. ``table`` has the path with that
    folder, which can be opened.
    """

    def location(self, position: int) -> str:
        """Return the file and row of a row of ``table``, for a message."""
        return f"{self.path}: row {self.row_numbers[position]}"

    def check_files(self) -> None:
        """Check that every image file exists.

        Raises:
            InputError: an image file does not exist; the message names the first missing file and
                its row.
        """
        for position, name in enumerate(self.table["path"]):
            if not Path(name).is_file():
                raise InputError(
                    f"{self.location(position)}: {name}: image file not found. Check the path."
                )

    def check_complete(self) -> None:
        """Check that every prompt has equally many images of every candidate.

        Their seeds may differ: logs have another seed for every image.

        Raises:
            InputError: an image is missing; the message names the first prompt with too few images
                of a candidate.
        """
        counts = (
            self.table.groupby(["prompt_id", "candidate"], sort=False)
            .size()
            .unstack(fill_value=0)
            .reindex(index=self.prompts["prompt_id"], columns=self.candidates)
        )
        missing = counts.lt(counts.max(axis=1), axis=0).to_numpy()
        if not missing.any():
            return
        position, column = np.argwhere(missing)[0]
        identifier, candidate = counts.index[position], counts.columns[column]
        prompt = abbreviated(self.prompts["prompt"][position])
        raise InputError(
            f"{self.path}: row {self.first_row('prompt_id', identifier)}: the prompt {prompt!r} has"
            f" {counts.iloc[position, column]} images of the candidate {candidate!r}, and"
            f" {counts.iloc[position].max()} of another candidate. Add the missing images, remove"
            " the prompt, or allow missing labels with '--set validate.complete_labels=false'."
        )


def parse_images(path: Path) -> ImagesFile:
    """Read a list of images and check each row; the image files are not opened.

    Without a column ``seed``, images of the same prompt and candidate are numbered.

    Args:
        path: a csv, tsv, jsonl, json or parquet file.

    Raises:
        InputError: the file cannot be read, a column is missing, a prompt is invalid
            (:func:`catimage.data.prompts.cleaning.clean`), a name or path is empty, a seed is not
            an integer, or two rows have the same prompt, candidate and seed.
    """
    rows = read_user_table(path)
    rows.require("prompt", "candidate", "path")
    prompts = parse_prompts(rows)
    candidates = parse_names(rows, "candidate", slashes=True)
    table = pd.DataFrame({"text": prompts.codes, "candidate": candidates})
    table["seed"] = parse_or_number_seeds(rows, table)
    codes, names = parse_texts(rows, "path")
    paths = [str(existing_path(path.parent, name)) for name in names]
    table["path"] = [paths[code] for code in codes]
    check_unique(path, table, ["text", "candidate", "seed"], rows.row_numbers)
    notes = rows.ignored_column_messages(("prompt", "candidate", "seed", "path"), IGNORED)
    prompts_table, table, merged = merge_spellings(path, prompts, table)
    return ImagesFile(path, prompts_table, table, rows.row_numbers, (*notes, *merged))


def read_image(path: Path) -> tuple[bytes, NDArray[np.uint8]]:
    """Read an image file.

    Returns:
        The encoded image to store (see :data:`UNCHANGED_FORMATS`), and its pixels (height, width,
        3), as they are displayed on a white page.

    Raises:
        InputError: the file does not exist, is not an image, or is damaged.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            pixels = rgb_pixels(image)
            unchanged = image.format in UNCHANGED_FORMATS and is_plain(image)
    except FileNotFoundError as error:
        raise InputError(f"{path}: image file not found. Check the path.") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # Pillow raises any of these for a damaged file
        raise InputError(
            f"{path}: cannot read the image file ({str(error).rstrip('.')}). Replace or remove it."
        ) from error
    return (data if unchanged else encode_image(pixels)), pixels

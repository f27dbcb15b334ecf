"""Readers of CSV files that list images (``prompt,candidate,seed,path``) and of image files."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from catimage.data.importers.delimited import read_columns
from catimage.data.importers.imported_file import (
    ImportedFile,
    abbreviated,
    check_unique,
    integer,
    parse_names,
    parse_numbers,
    parse_prompts,
)
from catimage.data.shards.store import encode_image
from catimage.errors import InputError

COLUMNS = ["prompt", "candidate", "seed", "path"]
UNCHANGED_FORMATS = ("PNG", "WEBP", "JPEG")
"""Image files in these formats are stored byte for byte; others are encoded as PNG."""


class ImagesFile(ImportedFile):
    """A CSV file that lists images; ``table`` has ``prompt_id, candidate, seed, path``.

    A relative path in the file starts from the folder of the file. ``table`` has the path with that
    folder, which can be opened.
    """

    def location(self, position: int) -> str:
        """Return the file and line of a row of ``table``, for a message."""
        return f"{self.path}: row {self.line_numbers[position]}"

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
        """Check that every prompt has an image of every candidate at every seed.

        Raises:
            InputError: an image is missing; the message names the first missing image.
        """
        columns = self.table[["prompt_id", "candidate", "seed"]]
        listed = set(columns.itertuples(index=False, name=None))
        for key in product(self.prompts["prompt_id"], self.candidates, self.table["seed"].unique()):
            if key not in listed:
                prompt = abbreviated(self.prompts.set_index("prompt_id")["prompt"][key[0]])
                raise InputError(
                    f"{self.path}: row {self.first_line('prompt_id', key[0])}: the prompt"
                    f" {prompt!r} has no image of the candidate {key[1]!r} at seed {key[2]}. Add"
                    " the image, remove the prompt, or allow missing labels with '--set"
                    " validate.complete_labels=false'."
                )


def parse_images(path: Path) -> ImagesFile:
    """Read a CSV list of images and check each row; the image files are not opened.

    Raises:
        InputError: the file cannot be read (:func:`read_columns`), a prompt is invalid
            (:func:`catimage.data.prompts.cleaning.clean`), a name or path is empty, a seed is not
            an integer, or two rows have the same prompt, candidate and seed.
    """
    rows = read_columns(path, COLUMNS)
    ids, prompts = parse_prompts(rows)
    table = pd.DataFrame(
        {
            "prompt_id": ids,
            "candidate": parse_names(rows, "candidate"),
            "seed": parse_numbers(rows, "seed", integer, "a whole number"),
            "path": [str(path.parent / name) for name in parse_names(rows, "path")],
        }
    )
    check_unique(path, table, ["prompt_id", "candidate", "seed"], rows.line_numbers)
    return ImagesFile(path, prompts, table, np.array(rows.line_numbers))


def read_image(path: Path) -> tuple[bytes, NDArray[np.uint8]]:
    """Read an image file.

    Returns:
        The encoded image to store (see :data:`UNCHANGED_FORMATS`), and its pixels (height, width,
        3); transparency is removed.

    Raises:
        InputError: the file does not exist, is not an image, or is damaged.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            pixels, image_format = np.asarray(image.convert("RGB")), image.format
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
    return (data if image_format in UNCHANGED_FORMATS else encode_image(pixels)), pixels

"""A list of images that somebody already has, as csv: ``prompt,candidate,seed,path``."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.data.importers.delimited import read_rows
from catimage.data.importers.rows import (
    ImportedFile,
    integer,
    read_names,
    read_numbers,
    read_prompts,
    refuse_twice,
    shortened,
)
from catimage.errors import InputError

COLUMNS = ["prompt", "candidate", "seed", "path"]


class ImagesFile(ImportedFile):
    """A list of images; ``table`` has ``prompt_id, candidate, seed, path``, the paths as they can
    be opened.
    """

    def where(self, place: int) -> str:
        """What begins a complaint about a row of ``table``."""
        return f"{self.path}: row {self.rows[place]}"

    def check_there(self) -> None:
        """Every file of the list exists.

        Raises:
            InputError: naming the first that does not, and its row.
        """
        for place, name in enumerate(self.table["path"]):
            if not Path(name).is_file():
                raise InputError(f"{self.where(place)}: {name}: there is no such image file.")

    def check_complete(self) -> None:
        """Every prompt has an image of every candidate and seed.

        Raises:
            InputError: naming the first hole.
        """
        there = set(
            self.table[["prompt_id", "candidate", "seed"]].itertuples(index=False, name=None)
        )
        for key in product(self.prompts["prompt_id"], self.candidates, self.table["seed"].unique()):
            if key not in there:
                prompt = shortened(self.prompts.set_index("prompt_id")["prompt"][key[0]])
                raise InputError(
                    f"{self.path}: row {self.first_row('prompt_id', key[0])}: the prompt {prompt!r}"
                    f" has no image of the candidate {key[1]!r} at seed {key[2]}: add it, remove"
                    " the prompt, or allow holes with --set validate.complete_labels=false."
                )


def parse_images(path: Path) -> ImagesFile:
    """Reads a list of images, and checks each row and that no image is there twice; the images
    themselves are not looked at.

    Raises:
        InputError: naming the file and the row: see
            :func:`catimage.data.importers.delimited.read_rows` and
            :func:`catimage.data.prompts.cleaning.clean`; a name or path is empty; a seed is not an
            integer; two rows are about the same prompt, candidate and seed.
    """
    rows = read_rows(path, COLUMNS)
    ids, prompts = read_prompts(rows)
    table = pd.DataFrame(
        {
            "prompt_id": ids,
            "candidate": read_names(rows, "candidate"),
            "seed": read_numbers(rows, "seed", integer, "a whole number"),
            "path": [str(path.parent / name) for name in read_names(rows, "path")],
        }
    )
    refuse_twice(path, table, ["prompt_id", "candidate", "seed"], rows.numbers)
    return ImagesFile(path, prompts, table, np.array(rows.numbers))

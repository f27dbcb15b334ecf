"""Lists of images, and metrics, for the tests of ``import-images``."""

import csv

import numpy as np
from PIL import Image

from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import read_shard
from catimage.metrics.metric import Metric, ReferenceMetric

HEADER = ["prompt", "candidate", "seed", "path"]


def rows_of(prompts=4, candidates=("cheap", "expensive"), seeds=(3, 8)):
    """Return the rows of a list with an image of each prompt, candidate and seed."""
    return [
        [f"a scene {i}", c, s, f"images/{c}-{i}-{s}.png"]
        for i in range(prompts)
        for c in candidates
        for s in seeds
    ]


def pixels_of(row, size=8):
    """Return noise that is brighter for higher prompt numbers and for ``expensive``."""
    number = int(row[0].split()[-1])
    rng = np.random.default_rng([number, row[2], len(row[1])])
    return rng.integers(
        0, 20 + number % 50 * (3 if row[1] == "expensive" else 1), (size, size, 3), np.uint8
    )


def write_images(folder, rows, header=HEADER, size=8):
    """Write a list of images, and its images unless they exist; return the path of the list."""
    (folder / "images").mkdir(exist_ok=True)
    for row in rows:
        valid = len(row) == 4 and isinstance(row[2], int) and row[0].strip()
        if valid and not (folder / row[3]).exists():
            Image.fromarray(pixels_of(row, size)).save(folder / row[3])
    with (folder / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder / "images.csv"


def files_of(root):
    """Return the content of the files in a folder by relative path, without lock files."""
    return {
        p.relative_to(root): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and not p.name.endswith(".lock")
    }


def images_of(workspace):
    """Return the encoded images by prompt, candidate and seed."""
    images = {}
    for entry in read_manifest(workspace.images):
        table, digest = read_shard(workspace.images, entry.shard)
        assert (digest, table.num_rows, set(table.column("candidate").to_pylist())) == (
            entry.digest,
            entry.images,
            {entry.candidate},
        )
        images |= {
            (r["prompt_id"], r["candidate"], r["seed"]): r["image"] for r in table.to_pylist()
        }
    return images


class Level(Metric):
    """The mean brightness of an image."""

    name = "level"
    range = (0.0, 1.0)

    def score(self, images, prompts):
        return images.mean((1, 2, 3)) / 255


class Darkness(Level):
    """The mean brightness of an image, of which a lower value is better."""

    name = "darkness"
    higher_is_better = False


class Distance(ReferenceMetric):
    """The mean absolute difference between an image and its reference image."""

    name = "distance"
    range = (0.0, 255.0)
    higher_is_better = False

    def score(self, images, prompts, references):
        return np.abs(images.astype(float) - references).mean((1, 2, 3))

"""``import-images``: a workspace that starts from images that somebody already has; the stages from
``label`` on run as on any other.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from catimage.commands.import_scores import candidates_table, check_unit, parameters, prices_of
from catimage.data.importers.images import read_image
from catimage.data.importers.images import ImagesFile, parse_images
from catimage.data.schema import CANDIDATES, IMAGES, PROMPTS, write_table
from catimage.data.shards.lock import writing
from catimage.data.shards.manifest import Entry, write_manifest
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import digest_of, write_shard
from catimage.errors import InputError
from catimage.metrics import declaration, needed
from catimage.params import Params, parse_params, save_params
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, manifest: Path, costs: Path | None, settings: list[str]) -> None:
    """Writes image shards and their manifest, the prompts and candidates tables and
    ``params.yaml``: all of them, or none.

    Images are read shard by shard (``generate.shard_images``). PNG, WebP and JPEG files are kept as
    they are, others become PNG. With ``label.on_error: skip`` an image that is missing, damaged, or
    of another size than the first of its candidate is named, left out and counted; otherwise it
    stops the import.

    Raises:
        InputError: see :mod:`catimage.data.importers.images`; such an image; a hole, unless
            ``validate.complete_labels`` is false; a candidate without a cost, or a cost without
            images; a unit, metric or reference candidate that is not there; a bad setting; or
            another process is writing images here.
    """
    file = parse_images(manifest)
    prices = prices_of(file, costs)
    tree = parameters(
        workspace.params,
        "images",
        {"cost_unit": (sorted(prices["unit"].unique()), costs or manifest)},
        costs,
        settings,
    )
    params = parse_params(tree, workspace.params)
    check_unit(params, file, prices, costs)
    _check(params, file)
    reader = _Reader(file, params.label.on_error == "skip")
    with writing(workspace.images), ExitStack() as stack:
        folder = stack.enter_context(replacing(workspace.images))
        folder.mkdir()
        write_manifest(folder, _write_shards(file, reader, folder, params.generate.shard_images))
        write_table(file.prompts, stack.enter_context(replacing(workspace.prompts)), PROMPTS)
        write_table(
            candidates_table(prices),
            stack.enter_context(replacing(workspace.candidates)),
            CANDIDATES,
        )
        save_params(tree, stack.enter_context(replacing(workspace.params)))
    for stale in (workspace.scores, workspace.reports / "validation.json"):
        stale.unlink(missing_ok=True)  # they were about other data
    what = (
        f"{len(file.prompts):,} prompts, {len(file.candidates)} candidates,"
        f" {len(file.table) - reader.left_out:,} images"
    )
    print(f"imported into {workspace.root}: {what}{_holes(reader.left_out, params)}", flush=True)


def _check(params: Params, file: ImagesFile) -> None:
    """What can be known before an image is read."""
    for metric in (*needed(params.label.metrics, params), *params.trained_metrics):
        declaration(metric, params)
    if params.imported is not None:
        params.imported.check_references(file.candidates)
    if params.validation.complete_labels:
        file.check_complete()
    if params.label.on_error == "stop":
        file.check_files()


def _holes(left_out: int, params: Params) -> str:
    if not left_out:
        return ""
    allowed = (
        ""
        if params.validation.complete_labels is False
        else "; 'label' goes on with --set validate.complete_labels=false"
    )
    return f"; {left_out:,} left out{allowed}"


def _write_shards(
    file: ImagesFile, reader: _Reader, folder: Path, shard_images: int
) -> list[Entry]:
    """Candidate by candidate, prompts in the order of the file, seeds ascending; never more than a
    shard in memory.
    """
    order = pd.Index(file.prompts["prompt_id"])
    table = file.table.assign(
        place=range(len(file.table)), order=order.get_indexer(pd.Index(file.table["prompt_id"]))
    )
    texts = file.prompts.set_index("prompt_id")["prompt"]
    entries = []
    with tqdm(total=len(table), unit="image", desc="import") as bar:
        for candidate in file.candidates:
            own = table[table["candidate"] == candidate].sort_values(["order", "seed"])
            cuts = [
                own.iloc[start : start + shard_images] for start in range(0, len(own), shard_images)
            ]
            made = [
                entry for cut in cuts if (entry := _write_shard(cut, reader, texts, folder, bar))
            ]
            if not made:
                raise InputError(
                    f"{file.path}: the candidate {candidate!r} has no image that can be read: mend"
                    " or remove its rows."
                )
            entries += made
    return entries


def _write_shard(
    rows: pd.DataFrame, reader: _Reader, texts: pd.Series, folder: Path, bar: Any
) -> Entry | None:
    """Writes the images of ``rows`` that can be read. The plan is named after what is in the shard,
    since a path says nothing of that.
    """
    images = []
    for row in rows.itertuples():
        images.append(reader.read(row))
        bar.update(1)
    rows = rows.assign(image=pd.Series(images, rows.index, object), seconds=None).dropna(
        subset="image"
    )
    if rows.empty:
        return None
    table = pa.Table.from_pandas(rows[IMAGES.names], schema=IMAGES, preserve_index=False)
    table, candidate = table.replace_schema_metadata(None), str(rows["candidate"].iloc[0])
    prompts = tuple((i, str(texts[i])) for i in rows["prompt_id"].unique())
    seeds = tuple(sorted(int(seed) for seed in rows["seed"].unique()))
    plan = ShardPlan(
        candidate,
        {"imported": digest_of(table)},
        0,
        prompts,
        seeds,
        batch=1,
        encoding="as imported",
    )
    return Entry(plan.name, candidate, table.num_rows, write_shard(folder, plan, table))


@dataclass
class _Reader:
    """Reads images, and leaves out what is bad if ``skip``."""

    file: ImagesFile
    skip: bool
    left_out: int = 0
    _first: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)

    def read(self, row: Any) -> bytes | None:
        """The encoded image of a row of the list; None for one that is left out.

        Raises:
            InputError: unless ``skip``, the image is missing, damaged, or of another size than the
                first of its candidate.
        """
        try:
            return self._read(row)
        except InputError as error:
            if not self.skip:
                raise
            print(f"import-images: left out: {error}", flush=True)
            self.left_out += 1
            return None

    def _read(self, row: Any) -> bytes:
        where = self.file.location(row.place)
        try:
            data, pixels = read_image(Path(row.path))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        size = pixels.shape[:2]
        first, at = self._first.setdefault(row.candidate, (size, row.path))
        if size != first:
            said = f"{size[1]} x {size[0]} pixels, and {at} has {first[1]} x {first[0]}"
            raise InputError(
                f"{where}: {row.path} has {said}: all images of the candidate {row.candidate!r}"
                " must have one size."
            )
        return data

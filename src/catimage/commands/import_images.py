"""``catimage import-images``: create a workspace from existing images; the next stage is label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from catimage.commands.import_common import (
    candidates_table,
    check_cost_unit,
    check_replaceable,
    costs_for,
    import_params,
    prompts_table,
    protection,
    replacement_error,
)
from catimage.common.transaction import written_together
from catimage.data.importers.images import ImagesFile, parse_images, read_image
from catimage.data.schema import CANDIDATES, IMAGES, PROMPTS, write_table
from catimage.data.shards.lock import write_lock
from catimage.data.shards.manifest import ShardEntry, read_manifest, write_manifest
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import digest_of, write_shard
from catimage.errors import InputError
from catimage.metrics.registry import declaration, required_metrics
from catimage.params import Params, parse_params, save_params
from catimage.workspace import Workspace


def run(
    workspace: Workspace,
    images_csv: Path,
    costs: Path | None,
    settings: list[str],
    replace: bool = False,
) -> None:
    """Write ``params.yaml``, the prompts and candidates tables, and image shards: all, or none.

    One shard (``generate.shard_images``) is in memory at a time. With ``label.on_error: skip``,
    images that are missing, damaged, or of another size than the first image of their candidate are
    reported and skipped; otherwise the first such image stops the import.

    Args:
        workspace: the workspace, which need not exist.
        images_csv: a file of images (:func:`catimage.data.importers.images.parse_images`).
        costs: a file of costs. Without one, every candidate costs 1.
        settings: settings ``key=value`` for ``params.yaml``.
        replace: whether data of a trained workspace may be replaced.

    Raises:
        InputError: a file, image or setting is invalid, the files have different candidates, data
            would be replaced, or another process writes images of this workspace.
    """
    file = parse_images(images_csv)
    cost_rows = costs_for(file, costs)
    possible_values = {"cost_unit": (sorted(cost_rows["unit"].unique()), costs or images_csv)}
    tree = import_params(workspace.params, "images", possible_values, costs is not None, settings)
    params = parse_params(tree, workspace.params)
    check_cost_unit(params, file, cost_rows, costs)
    _check_list(params, file)
    tables = _tables(workspace, file, cost_rows, params.gate_share)
    check_replaceable(workspace, tables, replace)
    reader = _ImageReader(file, params.label.on_error == "skip")
    _write(workspace, reader, tables, tree, params.generate.shard_images, replace)
    file.print_notes()
    summary = f"{_summary(file, reader.skipped)}{_skipped_note(reader.skipped, params)}"
    print(f"imported into {workspace.root}: {summary}", flush=True)


def _tables(
    workspace: Workspace, file: ImagesFile, costs: pd.DataFrame, gate_share: float
) -> dict[Path, tuple[pd.DataFrame, pa.Schema]]:
    """Return the rows and the schema of the tables to write, by path."""
    return {
        workspace.prompts: (prompts_table(file, gate_share), PROMPTS),
        workspace.candidates: (candidates_table(costs), CANDIDATES),
    }


def _check_list(params: Params, file: ImagesFile) -> None:
    """Check the metrics and the list of images, without reading an image."""
    for metric in (*required_metrics(params.label.metrics, params.label), *params.trained_metrics):
        declaration(metric, params.label)
    if params.imported is not None:
        params.imported.check_references(file.candidates)
    if params.validation.complete_labels:
        file.check_complete()
    if params.label.on_error == "stop":
        file.check_files()


def _summary(file: ImagesFile, skipped: int) -> str:
    n_images = len(file.table) - skipped
    return f"{len(file.prompts):,} prompts, {len(file.candidates)} candidates, {n_images:,} images"


def _skipped_note(skipped: int, params: Params) -> str:
    """Return the number of skipped images and the next step, as the end of a sentence."""
    if not skipped:
        return ""
    next_step = (
        ". Run 'catimage label --set validate.complete_labels=false' to continue without the"
        " skipped images."
        if params.validation.complete_labels
        else ""
    )
    return f", {skipped:,} skipped{next_step}"


def _write(
    workspace: Workspace,
    reader: _ImageReader,
    tables: dict[Path, tuple[pd.DataFrame, pa.Schema]],
    tree: dict[str, Any],
    shard_images: int,
    replace: bool,
) -> None:
    """Write all files, or none if an image is invalid or a file must not be replaced."""
    targets = (workspace.images, *tables, workspace.params)
    outdated_files = (workspace.scores, workspace.reports / "validation.json")
    with (
        write_lock(workspace.images),
        write_lock(workspace.scores),
        written_together(workspace.root, targets, outdated_files) as new,
    ):
        folder = new[workspace.images]
        folder.mkdir()
        entries = _write_shards(reader, folder, shard_images)
        reason = "" if replace else protection(workspace)
        if reason and workspace.images.exists() and read_manifest(workspace.images) != entries:
            raise replacement_error(workspace.images, reason)
        write_manifest(folder, entries)
        for path, (table, schema) in tables.items():
            write_table(table, new[path], schema)
        save_params(tree, new[workspace.params])


def _write_shards(reader: _ImageReader, folder: Path, shard_images: int) -> list[ShardEntry]:
    """Write the shards of each candidate, ordered by prompt and then by seed."""
    file, entries = reader.file, []
    texts = dict(zip(file.prompts["prompt_id"], file.prompts["prompt"], strict=True))
    ids = pd.Index(file.prompts["prompt_id"])
    table = file.table.assign(
        position=range(len(file.table)), order=ids.get_indexer(pd.Index(file.table["prompt_id"]))
    )
    with tqdm(total=len(table), unit="image", desc="import") as bar:
        for candidate in file.candidates:
            rows = table[table["candidate"] == candidate].sort_values(["order", "seed"])
            candidate_entries = []
            for start in range(0, len(rows), shard_images):
                images = reader.read_all(rows.iloc[start : start + shard_images])
                bar.update(min(shard_images, len(rows) - start))
                if len(images):
                    candidate_entries.append(_write_shard(images, texts, folder))
            if not candidate_entries:
                raise InputError(
                    f"{file.path}: the candidate {candidate!r} has no valid image. Correct or"
                    " remove its rows."
                )
            entries += candidate_entries
    return entries


def _write_shard(rows: pd.DataFrame, texts: Mapping[str, str], folder: Path) -> ShardEntry:
    """Write one shard and return its manifest entry.

    The plan, which determines the name of the shard, contains a digest of the images, because
    another import may list other images under the same paths.
    """
    table = pa.Table.from_pandas(rows[IMAGES.names], schema=IMAGES, preserve_index=False)
    table, candidate = table.replace_schema_metadata(None), str(rows["candidate"].iloc[0])
    plan = ShardPlan(
        candidate,
        {"imported": digest_of(table)},
        0,
        tuple((i, texts[i]) for i in rows["prompt_id"].unique()),
        tuple(sorted(int(seed) for seed in rows["seed"].unique())),
        batch_size=1,
        encoding="as imported",
    )
    return ShardEntry(plan.name, candidate, table.num_rows, write_shard(folder, plan, table))


@dataclass
class _ImageReader:
    """Reads the images of a list, and checks that those of a candidate have the same size.

    Attributes:
        file: the list of images.
        skip: whether invalid images are skipped; otherwise they raise an exception.
        skipped: the number of images that have been skipped.
        _first_images: the size (height, width) and path of the first image, by candidate.
    """

    file: ImagesFile
    skip: bool
    skipped: int = 0
    _first_images: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)

    def read_all(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows whose images are valid, with the columns ``image`` and ``seconds``.

        Raises:
            InputError: ``skip`` is false, and an image is missing, damaged, or of another size than
                the first image of its candidate.
        """
        images = pd.Series(list(self._images(rows)), rows.index, object)
        return rows.assign(image=images, seconds=None).dropna(subset="image")

    def _images(self, rows: pd.DataFrame) -> Iterator[bytes | None]:
        """Yield the encoded image of each row, or None if the image is skipped."""
        for row in rows.itertuples():
            try:
                yield self._read(row)
            except InputError as error:
                if not self.skip:
                    raise
                print(f"import-images: skipped: {error}", flush=True)
                self.skipped += 1
                yield None

    def _read(self, row: Any) -> bytes:
        """Return the encoded image of a row; raise InputError if it is invalid."""
        location = self.file.location(row.position)
        try:
            data, pixels = read_image(Path(row.path))
        except InputError as error:
            raise InputError(f"{location}: {error}") from error
        size = pixels.shape[:2]
        first_size, first_path = self._first_images.setdefault(row.candidate, (size, row.path))
        if size != first_size:
            raise InputError(
                f"{location}: {row.path} has {size[1]} x {size[0]} pixels, but {first_path} has"
                f" {first_size[1]} x {first_size[0]}. Resize or remove it: all images of the"
                f" candidate {row.candidate!r} must have the same size."
            )
        return data

"""Stage generate: generate an image for every prompt, candidate and seed, in shards (files)."""

from __future__ import annotations

from catimage.data.schema import CANDIDATES, PROMPTS, read_table, write_table
from catimage.data.shards.lock import write_lock
from catimage.data.shards.manifest import delete_stale_files, write_manifest
from catimage.errors import InputError
from catimage.params import Params
from catimage.pool.generation import generate_images
from catimage.pool.loading import load_pool
from catimage.workspace import Workspace


def run(workspace: Workspace, params: Params) -> None:
    """Generate missing images, and write ``data/candidates.parquet`` and then the manifest.

    The manifest lists the shards that belong to the current parameters. Undamaged shards of an
    earlier run are reused, even if that run was killed. Only a complete run replaces the manifest
    and deletes the shards that it no longer lists, except those of paid images.

    Raises:
        InputError: the prompts, the pool or weights are missing or invalid, the data were imported,
            or another process is generating images in this workspace.
    """
    params.check_not_imported("generate")
    pool = load_pool(params.pool, workspace.pools)
    table = read_table(workspace.prompts, PROMPTS, "sample")
    if table.empty:
        raise InputError(
            f"{workspace.prompts}: the table has no prompts. Add sources to sample.sources and run"
            " 'catimage sample'."
        )
    prompts = list(zip(table["prompt_id"], table["prompt"], strict=True))
    with write_lock(workspace.images):
        result = generate_images(
            pool,
            prompts,
            workspace.images,
            params.generate,
            params.cost_unit,
            workspace.counted_costs,
        )
        write_table(result.candidates, workspace.candidates, CANDIDATES)
        write_manifest(workspace.images, result.entries)
        delete_stale_files(workspace.images, result.entries)

"""``catimage remove-candidate``: remove a candidate from the pool, the tables and the router.

The estimators are trained again on the labels of the other candidates, as ``dvc repro`` would do;
their images and scores are not changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from catimage.commands.dvc_outputs import SOURCES, DvcOutputs
from catimage.commands.sources import sources_text
from catimage.commands.staged_candidate import (
    COMMITTED_STAGES,
    link_inputs,
    locked_outputs,
    paths_of,
    staged_outputs,
)
from catimage.common.transaction import replacing_together
from catimage.data.provenance import SCORES_FILE, Provenance
from catimage.data.schema import (
    CANDIDATES,
    SCORES,
    read_refused,
    read_table,
    write_frames,
    write_table,
)
from catimage.data.shards.manifest import MANIFEST_NAME, read_manifest, write_manifest
from catimage.data.shards.store import shard_path
from catimage.errors import InputError, nearest
from catimage.evaluation.router_folder import load_calibrated_router
from catimage.params import Params
from catimage.params.editing import params_text, read_tree
from catimage.pool.loading import find_pool_file, load_pool
from catimage.stages import calibrate, train, validate
from catimage.workspace import Workspace


@dataclass(frozen=True)
class _WithPools(Workspace):
    """A workspace with the pools of another folder.

    Attributes:
        new_pools: the folder.
    """

    new_pools: Path

    @property
    def pools(self) -> Path:
        """The folder of the pools."""
        return self.new_pools


def run(workspace: Workspace, params: Params, name: str) -> None:
    """Remove a candidate: from all outputs and from the pool file in ``pools/``, or from none.

    If a step fails or the process is killed, all of them stay unchanged, or the next command
    completes the replacement (:mod:`catimage.common.transaction`).

    Raises:
        InputError: there is no such candidate, a setting or the pool needs it, its pool is not in
            the workspace, fewer than two candidates would be left, a stage fails, or another
            process writes the outputs.
    """
    with locked_outputs(workspace) as dvc:
        load_calibrated_router(workspace, Provenance(workspace), params.metric, params.cost_unit)
        _check(workspace, params, name)
        outdated = "" if dvc is None else dvc.outdated(params)
        with _staged(workspace, params, name) as staged:
            _commit(workspace, staged, params, name, None if outdated else dvc)
    note = f" dvc.lock was not changed, because {outdated}." if outdated else ""
    print(f"remove-candidate: {name} was removed.{note} Run 'dvc repro' next.", flush=True)


def _check(workspace: Workspace, params: Params, name: str) -> None:
    """Raise InputError if the candidate cannot be removed."""
    table = read_table(workspace.candidates, CANDIDATES, "generate")
    names = sorted(table["candidate"].unique())
    if name not in names:
        raise InputError(
            f"{workspace.candidates}: no candidate is called {name!r}{nearest(name, names)}. Use"
            f" one of {', '.join(names)}."
        )
    if len(names) <= 2:
        raise InputError(
            f"{workspace.candidates}: a router needs two candidates, and {name!r} is one of"
            f" {len(names)}. Add another candidate first."
        )
    for key in ("reference", "fallback"):
        if getattr(params.serving, key) == name:
            raise InputError(
                f"serving.{key}: is {name!r}. Set another candidate, and run the command again."
            )


@contextmanager
def _staged(workspace: Workspace, params: Params, name: str) -> Iterator[Workspace]:
    """Compute the outputs in a temporary workspace, which is removed after the ``with`` block."""
    folder = workspace.root / ".catimage" / "remove-candidate"
    shutil.rmtree(folder, ignore_errors=True)
    staged = Workspace(folder)
    try:
        with paths_of(workspace, staged):
            _write_pools(workspace, staged, params, name)
            _write_tables(workspace, staged, name)
            with redirect_stdout(StringIO()):
                validate.run(staged, params)
                train.run(staged, params)
                calibrate.run(staged, params)
        yield staged
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_pools(workspace: Workspace, staged: Workspace, params: Params, name: str) -> None:
    """Write the pool without the candidate to ``staged``; its other files are links."""
    staged.pools.mkdir(parents=True)
    if workspace.pools.is_dir():
        for path in workspace.pools.iterdir():
            (staged.pools / path.name).symlink_to(path.resolve())
    if params.imported is not None:
        return
    path = find_pool_file(params.pool, workspace.pools)
    tree = read_tree(path)
    kept = [c for c in tree["candidates"] if c.get("candidate") != name]
    if len(kept) == len(tree["candidates"]):
        return
    if path.parent.resolve() != workspace.pools.resolve():
        raise InputError(
            f"{path}: has the candidate {name!r}, and is not in {workspace.pools}. Copy the pool"
            " to this folder and set 'pool', or remove the candidate from the file."
        )
    tree["candidates"][:] = kept
    (staged.pools / path.name).unlink()
    (staged.pools / path.name).write_text(params_text(tree), encoding="utf-8")
    load_pool(params.pool, staged.pools)


def _write_tables(workspace: Workspace, staged: Workspace, name: str) -> None:
    """Write the tables and the manifest without the candidate to ``staged``."""
    link_inputs(workspace, staged, ("data/embeddings", "expectations", ".catimage"))
    candidates = read_table(workspace.candidates, CANDIDATES, "generate")
    write_table(_without(candidates, name), staged.candidates, CANDIDATES)
    if (workspace.images / MANIFEST_NAME).exists():
        entries = read_manifest(workspace.images)
        write_manifest(staged.images, [e for e in entries if e.candidate != name])
    scores = read_table(workspace.scores, SCORES, "label")
    refused = _without(read_refused(workspace.scores, "label"), name)
    inputs = Provenance(staged).inputs(SCORES_FILE)
    write_frames([_without(scores, name)], staged.scores, SCORES, inputs, refused)


def _without(table: pd.DataFrame, name: str) -> pd.DataFrame:
    kept: pd.DataFrame = table[table["candidate"] != name].reset_index(drop=True)
    return kept


def _commit(
    workspace: Workspace, staged: Workspace, params: Params, name: str, dvc: DvcOutputs | None
) -> None:
    """Move the outputs to the workspace, and delete the shards of the candidate: all or nothing."""
    sources = staged_outputs(workspace, staged)
    if (workspace.images / MANIFEST_NAME).exists():
        sources[workspace.images / MANIFEST_NAME] = staged.images / MANIFEST_NAME
        for entry in read_manifest(workspace.images):
            if entry.candidate == name:
                sources[shard_path(workspace.images, entry.shard)] = None
    for path in staged.pools.iterdir():
        if not path.is_symlink():
            sources[workspace.pools / path.name] = path
    if dvc is not None:
        new_sources = staged.root / SOURCES
        with_pools = _WithPools(workspace.root, staged.pools)
        new_sources.write_text(sources_text(with_pools, params), encoding="utf-8")
        sources[workspace.root / SOURCES] = new_sources
    with replacing_together(workspace.root, sources, () if dvc is None else COMMITTED_STAGES):
        if dvc is not None:
            dvc.commit()

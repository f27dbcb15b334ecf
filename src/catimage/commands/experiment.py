"""``catimage run``: a workspace from one file of parameters, and the stages in it one after the
other, from where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from catimage.errors import InputError, nearest
from catimage.params import Params, apply_setting, load_params, parse_params, read_tree, save_params
from catimage.workspace import Workspace, replacing

STAGES = ("sample", "generate", "label", "validate", "train", "calibrate", "evaluate", "package")


def prepare(experiment: Path, workspace: Workspace, settings: list[str]) -> Params:
    """Copies the file of parameters to the workspace, unless it is there already, and applies
    ``settings``.

    Raises:
        InputError: the file is not there or not valid, or the workspace has other parameters.
    """
    tree = _with(_tree_of(experiment), settings)
    parse_params(tree, experiment)
    if not workspace.params.exists():
        workspace.root.mkdir(parents=True, exist_ok=True)
        if settings:
            save_params(tree, workspace.params)
        else:
            with replacing(workspace.params) as fresh:
                shutil.copyfile(experiment, fresh)
    there = read_tree(workspace.params)
    if there != tree:
        keys = ", ".join(sorted(k for k in {*there, *tree} if there.get(k) != tree.get(k)))
        what = (
            f"{workspace.params} is there and is another one than"
            f" {experiment}{' with these settings' if settings else ''} (in {keys})"
        )
        raise InputError(
            f"{what}: name another workspace, give the same --set as before, or remove the file."
        )
    return load_params(workspace.params)


def rehearsed(experiment: Path, settings: list[str]) -> Params:
    """The parameters that :func:`prepare` would put into the workspace, for a dry run.

    Raises:
        InputError: the file is not there or not valid.
    """
    return parse_params(_with(_tree_of(experiment), settings), experiment)


def run(workspace: Workspace, params: Params, until: str = "evaluate") -> None:
    """Runs the stages up to ``until``, each with a line that says so.

    generate and label continue by themselves. sample is left out where it has been done with these
    very parameters, since encoding the prompts of a large source takes long. The other stages take
    minutes and just run again.

    Raises:
        InputError: there is no such stage, or a stage fails.
    """
    check_stage(until)
    wanted = STAGES[: STAGES.index(until) + 1]
    for i, stage in enumerate(wanted, 1):
        head = f"run: {stage} ({i} of {len(wanted)})"
        reason = _left_out(stage, workspace, params)
        if reason:
            print(f"{head}: left out, {reason}", flush=True)
            continue
        print(head, flush=True)
        start = time.perf_counter()
        import_module(f"catimage.stages.{stage}").run(workspace, params)
        if stage == "sample":
            _remember(workspace, params)
        print(f"{head}: {time.perf_counter() - start:.1f} s", flush=True)


def check_stage(until: str) -> None:
    """Raises InputError where there is no such stage."""
    if until not in STAGES:
        raise InputError(
            f"--until {until!r}: there is no such stage{nearest(until, STAGES)}; there are"
            f" {', '.join(STAGES)}."
        )


def _tree_of(experiment: Path) -> dict[str, Any]:
    if not experiment.is_file():
        known = (
            sorted(p.name for p in experiment.parent.glob("*.yaml"))
            if experiment.parent.is_dir()
            else []
        )
        there = f"; there are {', '.join(known)}" if known else ""
        raise InputError(
            f"{experiment}: there is no such file{nearest(experiment.name, known)}{there}."
        )
    return read_tree(experiment)


def _with(tree: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    for setting in settings:
        apply_setting(tree, setting)
    return tree


def _left_out(stage: str, workspace: Workspace, params: Params) -> str:
    """Why a stage need not run; empty where it must."""
    if params.imported is not None and (
        stage in ("sample", "generate") or (stage == "label" and params.imported.kind == "scores")
    ):
        return f"the workspace was made by 'import-{params.imported.kind}'"
    if stage == "sample" and _memory(workspace).exists():
        same = json.loads(_memory(workspace).read_text()) == _sampled(workspace, params)
        whole = workspace.prompts.exists() and workspace.embeddings(params.encoder.name).is_dir()
        return "it has been done with these parameters" if same and whole else ""
    return ""


def _memory(workspace: Workspace) -> Path:
    return workspace.root / ".catimage" / "sampled.json"


def _sampled(workspace: Workspace, params: Params) -> Mapping[str, Any]:
    """What the sample stage depends on: its parameters, and the files of its sources by size and
    time.
    """
    places = [workspace.root / s.path for s in params.sample.sources if s.kind == "file"]
    files = [
        [str(p), p.stat().st_size, p.stat().st_mtime_ns] if p.exists() else [str(p)] for p in places
    ]
    digest = hashlib.sha256(
        (params.sample.model_dump_json() + params.encoder.model_dump_json()).encode()
    ).hexdigest()
    return {"parameters": digest, "files": files}


def _remember(workspace: Workspace, params: Params) -> None:
    with replacing(_memory(workspace)) as fresh:
        fresh.write_text(json.dumps(_sampled(workspace, params)) + "\n")

"""``catimage run``: create a workspace from a parameters file and run its stages."""

from __future__ import annotations

import json
import shutil
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from catimage.commands.sources import stage_sources
from catimage.errors import InputError, nearest
from catimage.params import Params, apply_setting, load_params, parse_params, read_tree, save_params
from catimage.workspace import STAGES, Workspace, replacing


def read_params(experiment: Path, settings: list[str]) -> Params:
    """Return the parameters of an experiment without creating a workspace.

    Args:
        experiment: a complete parameters file.
        settings: settings ``key=value`` that change it.

    Raises:
        InputError: the file does not exist or is invalid.
    """
    return parse_params(_read_tree(experiment, settings), experiment)


def prepare(experiment: Path, workspace: Workspace, settings: list[str]) -> Params:
    """Copy the parameters file to the workspace, unless it has one, and return the parameters.

    Args:
        experiment: a complete parameters file.
        workspace: the workspace, which need not exist.
        settings: settings ``key=value`` for the copy.

    Raises:
        InputError: the file does not exist or is invalid, or the workspace has other parameters.
    """
    tree = _read_tree(experiment, settings)
    parse_params(tree, experiment)
    if not workspace.params.exists():
        workspace.root.mkdir(parents=True, exist_ok=True)
        if settings:
            save_params(tree, workspace.params)
        else:
            with replacing(workspace.params) as new:
                shutil.copyfile(experiment, new)
    existing = read_tree(workspace.params)
    if existing != tree:
        keys = sorted(k for k in {*existing, *tree} if existing.get(k) != tree.get(k))
        raise InputError(
            f"{workspace.params}: differs from {experiment}"
            f"{' with these settings' if settings else ''} in {', '.join(keys)}. Name another"
            " workspace, give the same --set as before, or remove the file."
        )
    return load_params(workspace.params)


def run_stages(workspace: Workspace, params: Params, until: str = "evaluate") -> None:
    """Run the stages up to and including ``until``, and print a line for each.

    ``generate`` and ``label`` continue where they were interrupted. ``sample`` is skipped if it has
    already run with the same parameters, files and code, because encoding many prompts takes long.
    The other stages always run again. Stages whose output was imported are skipped.

    Raises:
        InputError: the stage is unknown, or a stage fails.
    """
    check_stage(until)
    stages = STAGES[: STAGES.index(until) + 1]
    for i, stage in enumerate(stages, 1):
        prefix = f"run: {stage} ({i} of {len(stages)})"
        reason = _skip_reason(stage, workspace, params)
        if reason:
            print(f"{prefix}: skipped, {reason}", flush=True)
            continue
        print(prefix, flush=True)
        start = time.perf_counter()
        import_module(f"catimage.stages.{stage}").run(workspace, params)
        if stage == "sample":
            _record_sample(workspace, params)
        print(f"{prefix}: {time.perf_counter() - start:.1f} s", flush=True)


def check_stage(until: str) -> None:
    """Check the name of a stage.

    Raises:
        InputError: the stage is unknown.
    """
    if until not in STAGES:
        raise InputError(
            f"--until {until!r}: unknown stage{nearest(until, STAGES)}. The stages are"
            f" {', '.join(STAGES)}."
        )


def _read_tree(experiment: Path, settings: list[str]) -> dict[str, Any]:
    """Return the keys and values of the parameters file, changed by ``settings``."""
    if not experiment.is_file():
        files = sorted(path.name for path in experiment.parent.glob("*.yaml"))
        fix = (
            f"Use one of the files in its folder: {', '.join(files)}" if files else "Check the path"
        )
        raise InputError(f"{experiment}: file not found{nearest(experiment.name, files)}. {fix}.")
    tree = read_tree(experiment)
    for setting in settings:
        apply_setting(tree, setting)
    return tree


def _skip_reason(stage: str, workspace: Workspace, params: Params) -> str:
    """Return the reason why a stage need not run; empty if the stage must run."""
    if params.imported is not None:
        replaced = ("sample", "generate", "label")[: 3 if params.imported.kind == "scores" else 2]
        reason = f"'catimage import-{params.imported.kind}' has written its output"
        return reason if stage in replaced else ""
    record = _sample_record(workspace)
    if stage == "sample" and record.exists():
        unchanged = json.loads(record.read_text()) == _sample_inputs(workspace, params)
        complete = workspace.prompts.exists() and workspace.embeddings(params.encoder.name).is_dir()
        return "already done with these inputs" if unchanged and complete else ""
    return ""


def _sample_record(workspace: Workspace) -> Path:
    """Return the file that records the inputs of the last sample stage."""
    return workspace.root / ".catimage" / "sampled.json"


def _sample_inputs(workspace: Workspace, params: Params) -> dict[str, Any]:
    """Return everything that the result of the sample stage depends on."""
    inputs: dict[str, Any] = stage_sources(workspace, params, ["sample"])["sample"]
    return inputs


def _record_sample(workspace: Workspace, params: Params) -> None:
    """Write the inputs of the sample stage that has just run."""
    with replacing(_sample_record(workspace)) as new:
        new.write_text(json.dumps(_sample_inputs(workspace, params)) + "\n")

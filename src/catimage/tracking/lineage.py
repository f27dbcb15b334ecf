"""Parameters, metrics and tags of a workspace in the form in which MLflow stores them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from typing import Any

import yaml

from catimage.errors import InputError
from catimage.workspace import Workspace


def read_metrics(workspace: Workspace) -> dict[str, Any]:
    """Read ``reports/metrics.json``.

    Raises:
        InputError: the file does not exist.
    """
    path = workspace.reports / "metrics.json"
    if not path.exists():
        raise InputError(f"{path}: not found. Run 'catimage evaluate' first.")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested dictionary as a flat one, with nested keys joined by dots.

    Lists are converted to JSON. Values that are None are left out.

    Args:
        tree: the nested dictionary.
        prefix: a text that precedes every key.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = json.dumps(value) if isinstance(value, list) else value
    return flat


def run_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of ``metrics.json`` that are compared between runs, with flat keys.

    These are the statistics of the budget, of the best single candidate and of the oracle, and
    ``mean_curve_quality``, ``max_quality`` and the held-out statistics of each method but
    ``fixed``.
    """
    documents = {key: metrics[key] for key in ("budget", "best_single", "oracle_quality")}
    for name, method in metrics["methods"].items():
        keys = ("mean_curve_quality", "max_quality", "selected")
        documents[name] = {key: method[key] for key in keys}
    return {
        key: float(value)
        for key, value in flatten(documents).items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and not key.startswith("fixed.")
    }


def lineage_tags(workspace: Workspace) -> dict[str, str]:
    """Return the tags that identify the code and the data of a router.

    They are the git commit, the MD5 hashes of ``params.yaml``, of ``dvc.lock`` and of every DVC
    output, and the tag of the Bento. Tags of files that do not exist are left out.
    """
    lock, bento = workspace.root / "dvc.lock", workspace.dist / "bento.json"
    tags = _git_commit(workspace)
    for path in (workspace.params, lock):
        if path.exists():
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False)
            tags[f"md5.{path.name}"] = digest.hexdigest()
    if lock.exists():
        stages = yaml.safe_load(lock.read_text())["stages"].values()
        outputs = (output for stage in stages for output in stage.get("outs", []))
        tags |= {f"md5.{output['path']}": output["md5"] for output in outputs}
    if bento.exists():
        tags["bento"] = json.loads(bento.read_text())["tag"]
    return tags


def _git_commit(workspace: Workspace) -> dict[str, str]:
    """Return the tag of the current git commit; empty outside a git repository."""
    if not shutil.which("git"):
        return {}
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=workspace.root, capture_output=True, text=True
    )
    return {"mlflow.source.git.commit": git.stdout.strip()} if git.returncode == 0 else {}

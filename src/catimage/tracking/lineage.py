"""Parameters, metrics and tags of a workspace in the form in which MLflow stores them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from catimage.common.files import read_json
from catimage.common.git import git_commit
from catimage.common.hashing import folder_digest
from catimage.common.yaml_files import read_yaml
from catimage.errors import InputError
from catimage.workspace import Workspace

_LONGEST_KEY, _LONGEST_VALUE = 250, 6000
_KEY_CHARACTERS = re.compile(r"[^A-Za-z0-9_.:/ -]")


def read_metrics(workspace: Workspace) -> dict[str, Any]:
    """Read ``reports/metrics.json``.

    Raises:
        InputError: the file does not exist or is damaged.
    """
    path = workspace.reports / "metrics.json"
    document = read_json(path, "evaluate")
    if not {"budget", "best_single", "oracle_quality", "methods"} <= document.keys():
        raise InputError(f"{path}: keys are missing. Run 'catimage evaluate' again.")
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


def run_params(tree: dict[str, Any]) -> dict[str, str]:
    """Return parameters with flat keys in the form that MLflow accepts.

    MLflow limits the length of values and the characters of keys. Longer values are cut, and other
    characters replaced; the run has the complete ``params.yaml`` as an artifact.

    Args:
        tree: the parameters of a workspace.
    """
    return {
        _KEY_CHARACTERS.sub("_", key)[:_LONGEST_KEY]: str(value)[:_LONGEST_VALUE]
        for key, value in flatten(tree).items()
    }


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
    output, the tag of the Bento, and the name and the digest of its pool. Tags of files that do not
    exist are left out, and so are those of a Bento that contains another router.

    Raises:
        InputError: ``dvc.lock`` or ``dist/bento.json`` is damaged.
    """
    lock, bento = workspace.root / "dvc.lock", workspace.dist / "bento.json"
    commit = git_commit(workspace.root)
    tags = {"mlflow.source.git.commit": commit} if commit else {}
    for path in (workspace.params, lock):
        if path.exists():
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False)
            tags[f"md5.{path.name}"] = digest.hexdigest()
    tags |= _output_tags(lock) if lock.exists() else {}
    if bento.exists():
        document = read_json(bento, "package")
        if document.get("router") == folder_digest(workspace.router):
            tags["bento"] = str(document["tag"])
            tags |= {k: str(document[k]) for k in ("pool", "pool_revision") if k in document}
    return tags


def _output_tags(lock: Path) -> dict[str, str]:
    """Return the MD5 hash of every output in ``dvc.lock`` that has one.

    DVC stores the hash of each file instead of one for the folder if the remote storage is
    version-aware.
    """
    try:
        stages = (read_yaml(lock) or {}).get("stages") or {}
        outputs = [output for stage in stages.values() for output in stage.get("outs") or []]
        return {f"md5.{o['path']}": str(o["md5"]) for o in outputs if o.get("md5")}
    except (AttributeError, TypeError, KeyError) as error:
        raise InputError(
            f"{lock}: not a lock file of DVC. Restore it from git, or delete it and run 'dvc"
            " repro'."
        ) from error

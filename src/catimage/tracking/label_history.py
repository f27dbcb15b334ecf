"""The labels that a registered router was trained on, with which later data are compared.

A registration logs the labels of a sample of the prompts. When the version becomes champion, they
are written to the workspace, and the stage validate compares the next data with them
(:mod:`catimage.validation.history`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from catimage.data.schema import SCORES, read_table
from catimage.tracking.client import MODEL
from catimage.validation.history import label_table
from catimage.workspace import Workspace, replacing

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ARTIFACT = "champion_labels.parquet"
"""Name of the artifact of a run."""
MAX_PROMPTS = 500
"""Number of prompts of the sample: those with the smallest ids, which are hashes."""


def log_labels(workspace: Workspace) -> None:
    """Log the labels of a sample of the prompts as an artifact of the active run."""
    import mlflow

    scores = read_table(workspace.scores, SCORES, "label")
    sample = sorted(scores["prompt_id"].unique())[:MAX_PROMPTS]
    labels = label_table(scores[scores["prompt_id"].isin(sample)])
    with TemporaryDirectory() as folder:
        path = Path(folder) / ARTIFACT
        labels.to_parquet(path, index=False)
        mlflow.log_artifact(str(path))


def write_champion_labels(client: MlflowClient, version: str, workspace: Workspace) -> None:
    """Write the labels of a version, the champion, to the workspace.

    If an older version of CATImage registered the version, there are none, and the file is removed.
    """
    run = client.get_model_version(MODEL, version).run_id
    target = workspace.champion_labels
    if not run or ARTIFACT not in {artifact.path for artifact in client.list_artifacts(run)}:
        target.unlink(missing_ok=True)
        return
    with TemporaryDirectory() as folder, replacing(target) as new:
        shutil.copyfile(client.download_artifacts(run, ARTIFACT, folder), new)

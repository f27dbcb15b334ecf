"""The labels of a Bento, which say what it was made of."""

from __future__ import annotations

import os

from catimage.common.git import git_commit
from catimage.common.hashing import file_digest, folder_digest
from catimage.pool.spec import Pool
from catimage.workspace import Workspace


def bento_labels(workspace: Workspace, pool: Pool) -> dict[str, str]:
    """Return the labels of a Bento.

    They are the digests of the router, of the pool file and of ``dvc.lock``, the name of the pool,
    the git commit of the workspace, and the MLflow run in ``MLFLOW_RUN_ID``. Those that do not
    exist are left out.
    """
    lock = workspace.root / "dvc.lock"
    labels = {
        "router": folder_digest(workspace.router),
        "pool": pool.name,
        "pool_revision": file_digest(pool.file),
        "git_commit": git_commit(workspace.root),
        "dvc_lock": file_digest(lock) if lock.exists() else None,
        "mlflow_run": os.environ.get("MLFLOW_RUN_ID"),
    }
    return {key: value for key, value in labels.items() if value}

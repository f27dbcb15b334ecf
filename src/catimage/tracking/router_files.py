"""The files of a registered router."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from catimage.common.hashing import folder_digest
from catimage.errors import InputError
from catimage.tracking.client import CHALLENGER, MODEL
from catimage.tracking.outages import check_storage
from catimage.tracking.versions import DIGEST_TAG, version_with_alias

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def find_version(client: MlflowClient, version: str | None) -> str:
    """Return a version that exists; by default that with the alias ``challenger``.

    Raises:
        InputError: there is no such version, or no challenger.
    """
    from mlflow.exceptions import MlflowException

    if version is None:
        found = version_with_alias(client, CHALLENGER)
        if found is None:
            raise InputError("challenger: no router is registered. Run 'catimage register' first.")
        return found
    try:
        return str(client.get_model_version(MODEL, version).version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        known = sorted(int(v.version) for v in client.search_model_versions(f"name='{MODEL}'"))
        text = ", ".join(map(str, known)) or "none"
        raise InputError(
            f"VERSION: there is no version {version!r} of the router. Use one of {text}."
        ) from error


def registered_digest(client: MlflowClient, version: str) -> str:
    """Return the digest of the files of a version, as it was registered.

    Raises:
        InputError: an older version of CATImage registered it, without a digest.
    """
    digest = client.get_model_version(MODEL, version).tags.get(DIGEST_TAG)
    if not digest:
        raise InputError(
            f"MLflow: version {version} of {MODEL!r} has no tag {DIGEST_TAG!r}. Register the router"
            " again."
        )
    return str(digest)


def download_router(client: MlflowClient, version: str, folder: Path) -> Path:
    """Download the files of a version, and check them.

    Args:
        client: a client of the MLflow server.
        version: the version.
        folder: an existing folder, to which the files are downloaded.

    Returns:
        The folder of the router.

    Raises:
        InputError: the files are missing, or differ from those that were registered.
        OutageError: the storage of the files does not respond.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    expected = registered_digest(client, version)
    try:
        model = download_artifacts(f"models:/{MODEL}/{version}", dst_path=str(folder))
    except (MlflowException, OSError) as error:
        check_storage(f"models:/{MODEL}/{version}", error)
        raise InputError(
            f"MLflow: the files of version {version} of {MODEL!r} cannot be found. Restore them, or"
            " promote another version."
        ) from error
    router = Path(model) / "artifacts" / "router"
    if not router.is_dir() or folder_digest(router) != expected:
        raise InputError(
            f"MLflow: the files of version {version} of {MODEL!r} are not those that were"
            " registered. Restore them, or promote another version."
        )
    return router

"""The DVC remote of a workspace: where its data are stored for other machines.

Environment variables choose it, so that the same workspace and flows run on one machine with local
files and on several with S3-compatible storage:

- ``CATIMAGE_DVC_REMOTE``: the address, such as ``s3://bucket/folder`` or a folder that all machines
  mount. If it is not set, nothing is stored elsewhere.
- ``CATIMAGE_DVC_VERSION_AWARE``: ``true`` if the files should have their own names in a bucket with
  versioning (cloud versioning of DVC), instead of names by content. DVC then uploads all files of
  a folder again if one of them has changed.
- the variables of AWS's clients, such as ``AWS_ACCESS_KEY_ID`` and ``AWS_ENDPOINT_URL``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from catimage.common.yaml_files import read_yaml
from catimage.errors import InputError, OutageError
from catimage.workspace import Workspace, replacing

if TYPE_CHECKING:
    from dvc.repo import Repo

ADDRESS, VERSION_AWARE = "CATIMAGE_DVC_REMOTE", "CATIMAGE_DVC_VERSION_AWARE"
"""Environment variables."""
NAME = "catimage"
"""Name of the remote in DVC's local configuration."""


@dataclass(frozen=True)
class DataRemote:
    """A DVC remote.

    Attributes:
        address: the address.
        version_aware: whether the bucket has versioning and the files have their own names.
    """

    address: str
    version_aware: bool = False


def configured_remote() -> DataRemote | None:
    """Return the remote in the environment variables, or None if there is none.

    Raises:
        InputError: a variable has an invalid value, or a package is not installed.
    """
    address = os.environ.get(ADDRESS, "").strip()
    if not address:
        return None
    value = os.environ.get(VERSION_AWARE, "").strip().lower() or "false"
    if value not in ("true", "false"):
        raise InputError(f"{VERSION_AWARE}: {value!r} is neither true nor false. Correct it.")
    if find_spec("dvc") is None:
        raise InputError(f"{ADDRESS}: needs DVC. Run pip install 'catimage[dvc]'.")
    if address.startswith("s3://") and not (find_spec("dvc_s3") and find_spec("boto3")):
        raise InputError(f"{ADDRESS}: S3 needs packages. Run pip install 'catimage[s3]'.")
    return DataRemote(address, value == "true")


def pull(workspace: Workspace, remote: DataRemote) -> list[str]:
    """Download the outputs in ``dvc.lock`` that do not exist in the workspace.

    Existing outputs are unchanged, also if they differ from ``dvc.lock``.

    Returns:
        The paths of the outputs that were downloaded.

    Raises:
        InputError: the remote cannot be used, or has not all files.
    """
    missing = [path for path in _outputs(workspace) if not (workspace.root / path).exists()]
    if missing:
        with _repository(workspace, remote) as repo:
            repo.pull([str(workspace.root / path) for path in missing], remote=NAME)
    return missing


def push(workspace: Workspace, remote: DataRemote) -> int:
    """Upload the outputs in ``dvc.lock``.

    With a version-aware remote, ``dvc.lock`` then has the version of each file in the bucket.

    Returns:
        The number of uploaded files.

    Raises:
        InputError: the remote cannot be used. ``dvc.lock`` is then unchanged.
    """
    lock = workspace.root / "dvc.lock"
    before = lock.read_bytes() if lock.exists() else b""
    try:
        with _repository(workspace, remote) as repo:
            return int(repo.push(remote=NAME))
    except InputError:
        if before and lock.read_bytes() != before:
            with replacing(lock) as new:
                new.write_bytes(before)
        raise


def _outputs(workspace: Workspace) -> list[str]:
    """Return the paths of the outputs in ``dvc.lock``."""
    lock = workspace.root / "dvc.lock"
    stages = (read_yaml(lock) or {}).get("stages") or {} if lock.exists() else {}
    return [str(out["path"]) for stage in stages.values() for out in stage.get("outs") or []]


@contextmanager
def _repository(workspace: Workspace, remote: DataRemote) -> Iterator[Repo]:
    """Open the DVC repository of a workspace, and configure the remote.

    Raises:
        InputError: there is no DVC repository, or the remote cannot be used.
        OutageError: the server of the remote does not respond.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    _check_bucket(remote)
    try:
        with Repo(str(workspace.root)) as repo:
            with repo.config.edit("local") as config:
                config["remote"][NAME] = _options(remote)
                config["core"]["remote"] = NAME
            yield repo
    except (DvcException, OSError) as error:
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(f"{ADDRESS} ({remote.address}): {text}. Correct the cause.") from error


def _options(remote: DataRemote) -> dict[str, Any]:
    options: dict[str, Any] = {"url": remote.address}
    if remote.version_aware:
        options["version_aware"] = True
    return options


def _check_bucket(remote: DataRemote) -> None:
    """Check that an S3 bucket exists, and has versioning if it is needed.

    DVC reports success, and removes hashes from ``dvc.lock``, if the bucket of a version-aware
    remote does not exist.
    """
    location = urlsplit(remote.address)
    if location.scheme != "s3":
        return
    import boto3
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
    )

    try:
        versioning = boto3.client("s3").get_bucket_versioning(Bucket=location.netloc)
    except (ConnectionError, HTTPClientError) as error:
        text = str(error).rstrip(".")
        raise OutageError(f"{ADDRESS} ({remote.address}): {text}. Start the server.") from error
    except (BotoCoreError, ClientError, ValueError) as error:
        text = str(error).rstrip(".")
        raise InputError(
            f"{ADDRESS} ({remote.address}): {text}. Create the bucket, or correct the address and"
            " the variables AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    if remote.version_aware and versioning.get("Status") != "Enabled":
        raise InputError(
            f"{VERSION_AWARE}: the bucket {location.netloc!r} has no versioning. Enable it, or"
            " remove the variable."
        )

"""Runs and model versions of MLflow that ``catimage gc`` can remove, and what is still needed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from catimage.common.garbage import Garbage, size_of
from catimage.tracking.champions import champion_history
from catimage.tracking.client import EXPERIMENT, MODEL
from catimage.tracking.versions import DIGEST_TAG, reference_of

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient


@dataclass
class Needed:
    """What the versions of the registry that are kept need elsewhere.

    Attributes:
        digests: the digests of their routers.
        hashes: the MD5 hashes of the outputs of DVC that they were made from.
        bentos: the tags of the Bentos that contain them.
    """

    digests: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)
    bentos: set[str] = field(default_factory=set)


def needed_versions(client: MlflowClient, served: Collection[str]) -> set[str]:
    """Return the versions with an alias, in the history, served, and their references.

    Args:
        client: a client of the MLflow server.
        served: the digests of the routers that the service uses.
    """
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(MODEL).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return set()
    needed = {str(version) for version in aliases.values()} | set(champion_history(client))
    needed |= {str(v.version) for v in _versions(client) if v.tags.get(DIGEST_TAG) in served}
    for version in sorted(needed):
        with suppress(MlflowException):  # a version in the history may have been deleted
            needed.add(reference_of(client, version))
    return needed


def registry_garbage(
    client: MlflowClient, keep: int, before: float, served: Collection[str]
) -> tuple[list[Garbage], Needed]:
    """Return the runs that can be removed with their models, and what the others need.

    Args:
        client: a client of the MLflow server.
        keep: the number of the newest runs that are kept.
        before: the time at which the removed runs had ended, in seconds since the epoch.
        served: the digests of the routers that the service uses.
    """
    protected, versions = needed_versions(client, served), _versions(client)
    garbage, needed = [], Needed()
    for i, run in enumerate(_runs(client)):
        own = [v for v in versions if v.run_id == run.info.run_id]
        ended = (run.info.end_time or run.info.start_time) / 1000
        if i < keep or ended >= before or {str(v.version) for v in own} & protected:
            _add_needs(needed, run, own)
        else:
            garbage.append(_garbage(client, run, own))
    return garbage, needed


def _add_needs(needed: Needed, run: Run, versions: list[ModelVersion]) -> None:
    tags = run.data.tags
    needed.digests |= {v.tags[DIGEST_TAG] for v in versions if DIGEST_TAG in v.tags}
    needed.hashes |= {value for key, value in tags.items() if key.startswith("md5.")}
    needed.bentos |= {tags["bento"]} if "bento" in tags else set()


def _garbage(client: MlflowClient, run: Run, versions: list[ModelVersion]) -> Garbage:
    """Return a run with the model versions and the files that belong to it."""
    models = _logged_models(client, run)
    places = [run.info.artifact_uri, *(model.artifact_location for model in models)]

    def remove() -> None:
        for version in versions:
            client.delete_model_version(MODEL, version.version)
        for model in models:
            _delete_files(model.artifact_location)
            client.delete_logged_model(model.model_id)
        _delete_files(run.info.artifact_uri)
        client.delete_run(run.info.run_id)

    numbers = ", ".join(str(version.version) for version in versions)
    name = f"{run.info.run_id}{f' (version {numbers})' if numbers else ''}"
    size = sum(size_of(path) for place in places if (path := _local(place)))
    return Garbage("MLflow runs", name, size, remove)


def _versions(client: MlflowClient) -> list[ModelVersion]:
    query = f"name='{MODEL}'"
    return _all_pages(lambda token: client.search_model_versions(query, page_token=token))


def _runs(client: MlflowClient) -> list[Run]:
    """Return the runs of the experiment that are not deleted, the newest first."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    order = ["attributes.start_time DESC"]
    return _all_pages(
        lambda token: client.search_runs(
            [experiment.experiment_id], order_by=order, page_token=token
        )
    )


def _logged_models(client: MlflowClient, run: Run) -> list[LoggedModel]:
    query = f"source_run_id='{run.info.run_id}'"
    return _all_pages(
        lambda token: client.search_logged_models(
            [run.info.experiment_id], filter_string=query, page_token=token
        )
    )


def _all_pages(search: Callable[[str | None], Any]) -> list[Any]:
    """Return the results of all pages of a search."""
    page = search(None)
    found = list(page)
    while page.token:
        page = search(page.token)
        found += page
    return found


def _delete_files(uri: str) -> None:
    """Delete the artifacts at an address."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository: Any = get_artifact_repository(uri)
    repository.delete_artifacts()


def _local(uri: str) -> Path | None:
    """Return the folder at an address; None if it is not on this machine."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme in ("", "file") else None

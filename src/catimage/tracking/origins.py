"""What each registered router was made from, as MLflow has recorded it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from catimage.tracking.client import MODEL
from catimage.tracking.versions import DIGEST_TAG

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_GIT, _MD5 = "mlflow.source.git.commit", "md5."


@dataclass(frozen=True)
class Origin:
    """A registered router and what it was made from.

    Attributes:
        version: the version in the registry.
        aliases: its aliases, such as ``champion``.
        digest: the digest of the folder of the router.
        run: the id of the MLflow run.
        created: the time of the registration, in milliseconds since the epoch.
        reason: the decision of the promotion gate.
        git_commit: the commit of the repository of the workspace; empty without one.
        pool: the name of the pool; empty if it was not recorded.
        pool_revision: the digest of the pool file; empty if it was not recorded.
        bento: the tag of the Bento that contains the router; empty without one.
        files: MD5 hashes by path, of ``params.yaml``, ``dvc.lock`` and the outputs of the stages.
    """

    version: str
    aliases: tuple[str, ...]
    digest: str
    run: str
    created: int
    reason: str
    git_commit: str
    pool: str
    pool_revision: str
    bento: str
    files: dict[str, str]

    def is_named(self, name: str) -> bool:
        """Return whether a name identifies the router or one of the things it was made from.

        Digests, hashes and commits may be shortened to eight digits or more.
        """
        exact = (self.version, *self.aliases, self.run, self.pool, self.bento)
        hashes = (self.digest, self.git_commit, self.pool_revision, *self.files.values())
        return name in exact or (len(name) >= 8 and any(h.startswith(name) for h in hashes))

    def to_document(self) -> dict[str, Any]:
        """Return the attributes as a dictionary for JSON."""
        return asdict(self) | {"aliases": list(self.aliases)}


def registered_origins(client: MlflowClient) -> list[Origin]:
    """Return all registered routers, oldest first; empty without a registry."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(MODEL).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return []
    versions = client.search_model_versions(f"name='{MODEL}'")
    origins = [_origin(client, version, aliases) for version in versions]
    return sorted(origins, key=lambda origin: int(origin.version))


def _origin(client: MlflowClient, version: Any, aliases: dict[str, Any]) -> Origin:
    tags = client.get_run(version.run_id).data.tags
    named = sorted(alias for alias, v in aliases.items() if str(v) == str(version.version))
    return Origin(
        version=str(version.version),
        aliases=tuple(named),
        digest=version.tags.get(DIGEST_TAG, ""),
        run=str(version.run_id),
        created=int(version.creation_timestamp),
        reason=version.tags.get("gate", ""),
        git_commit=tags.get(_GIT, ""),
        pool=tags.get("pool", ""),
        pool_revision=tags.get("pool_revision", ""),
        bento=tags.get("bento", ""),
        files={k.removeprefix(_MD5): v for k, v in sorted(tags.items()) if k.startswith(_MD5)},
    )

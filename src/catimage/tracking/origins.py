"""What each registered router was made from, as MLflow has recorded it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from catimage.errors import InputError
from catimage.tracking.client import MODEL
from catimage.tracking.versions import DIGEST_TAG

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SHORTEST = 7
"""Minimum number of characters of a shortened hash, as in git."""
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

    @property
    def names(self) -> frozenset[str]:
        """What identifies the router or one of the things it was made from, unabridged."""
        return self.hashes | {self.version, *self.aliases, self.pool, self.bento} - {""}

    @property
    def hashes(self) -> frozenset[str]:
        """The id of the run, the commit, and the digests of the router and its files."""
        hashes = (self.run, self.digest, self.git_commit, self.pool_revision)
        return frozenset({*hashes, *self.files.values()} - {""})

    def to_document(self) -> dict[str, Any]:
        """Return the attributes as a dictionary for JSON."""
        return asdict(self) | {"aliases": list(self.aliases)}


def origins_with_name(origins: Sequence[Origin], name: str) -> list[Origin]:
    """Return the routers that a name identifies; hashes may be shortened to seven characters.

    Raises:
        InputError: the name is the beginning of several hashes.
    """
    if found := [origin for origin in origins if name in origin.names]:
        return found
    if len(name) < SHORTEST:
        return []
    hashes = {h for origin in origins for h in origin.hashes if h.startswith(name)}
    if len(hashes) > 1:
        raise InputError(
            f"{name}: is the beginning of {' and '.join(sorted(hashes)[:2])}. Give more characters."
        )
    return [origin for origin in origins if hashes & origin.hashes]


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

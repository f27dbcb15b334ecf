"""Loads the router of a workspace; without one, the service starts on its fallback candidate."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from catimage.common.files import read_json
from catimage.common.hashing import folder_digest
from catimage.errors import InputError
from catimage.params import load_params
from catimage.params.serving import ServingParams
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from catimage.router import Router
from catimage.serving.decisions.versions import FALLBACK_VERSION, RouterVersion, Versions
from catimage.serving.dispatch.facts import (
    PoolFacts,
    check_candidates,
    costs_without_router,
    pool_facts,
    router_costs,
)
from catimage.workspace import Workspace

DIGITS = 12
"""Number of digits of the digest that names a version."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedRouter:
    """The routers in use, and the candidates.

    Attributes:
        pool: the pool of the workspace.
        facts: the candidates of the routers.
        versions: the routers; without a champion if none can be loaded.
        digest: digest of the folder of the champion; empty without one.
        created: time at which the router was written, in seconds since the epoch.
        problem: why there is no router; empty if there is one.
        lineage: what the router was made from: the contents of ``bento.json``, if there is one.
    """

    pool: Pool
    facts: PoolFacts
    versions: Versions
    digest: str
    created: int
    problem: str
    lineage: Mapping[str, Any]

    @property
    def champion(self) -> RouterVersion | None:
        """The router that decides; None if none can be loaded."""
        return self.versions.champion

    @property
    def version(self) -> str:
        """Name of the version in responses, logs and metrics."""
        return self.champion.version if self.champion else FALLBACK_VERSION


def load_router(workspace: Workspace, settings: ServingParams) -> LoadedRouter:
    """Load the router and the pool of a workspace, without loading generators. Takes seconds.

    Args:
        workspace: the workspace.
        settings: the section ``serving`` of the parameters.

    Raises:
        InputError: the parameters or the pool cannot be read, or the settings name an unknown
            candidate. (A router that cannot be loaded is no error.)
    """
    pool = load_pool(load_params(workspace.params).pool, workspace.pools)
    champion, digest, problem = None, "", ""
    try:
        digest = folder_digest(workspace.router)
        champion = RouterVersion(digest[:DIGITS], Router.load(workspace.router))
        champion.warm_up()
        costs, unit = router_costs(champion.router), champion.router.cost_unit
        check_candidates(pool, costs)
    except Exception as error:  # files that are damaged, or of other versions of libraries
        champion, digest = None, ""
        problem = str(error) if isinstance(error, InputError) else type(error).__name__
        _LOG.error("no router, the service uses its fallback candidate: %s", problem, exc_info=True)
        costs, unit = costs_without_router(workspace, pool)
    facts = pool_facts(pool, costs, unit, settings)
    versions, created = Versions(champion), _created(workspace)
    return LoadedRouter(pool, facts, versions, digest, created, problem, _lineage(workspace))


def with_versions(
    loaded: LoadedRouter, versions: Versions, digest: str, settings: ServingParams
) -> LoadedRouter:
    """Return what is loaded with other routers, which must be warmed up.

    Args:
        loaded: what is loaded.
        versions: the routers, with a champion.
        digest: digest of the folder of the champion.
        settings: the section ``serving`` of the parameters.

    Raises:
        InputError: there is no champion, or the pool lacks a candidate of a router.
    """
    if versions.champion is None:
        raise InputError("champion: missing. Publish a router first.")
    router = versions.champion.router
    facts = pool_facts(loaded.pool, router_costs(router), router.cost_unit, settings)
    if versions.challenger is not None:
        costs = {**router_costs(versions.challenger.router), **facts.costs}
        extended = pool_facts(loaded.pool, costs, router.cost_unit, settings)
        facts = replace(extended, reference=facts.reference, fallback=facts.fallback)
    return replace(
        loaded,
        versions=versions,
        digest=digest,
        facts=facts,
        problem="",
        created=int(time.time()),
    )


def _created(workspace: Workspace) -> int:
    path = workspace.router / "router.json"
    return int((path if path.exists() else workspace.params).stat().st_mtime)


def _lineage(workspace: Workspace) -> dict[str, Any]:
    """Return the contents of the file ``bento.json`` that the stage package writes."""
    for path in (workspace.root / "bento.json", workspace.dist / "bento.json"):
        if path.exists():
            return read_json(path, "package")
    return {}

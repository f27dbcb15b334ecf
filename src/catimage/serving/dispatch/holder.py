"""The router in use: loaded in the background, and changed without a restart."""

from __future__ import annotations

import asyncio
import logging

from catimage.errors import InputError
from catimage.params.serving import ServingParams
from catimage.serving.decisions.versions import Versions
from catimage.serving.dispatch.loading import LoadedRouter, load_router, with_versions
from catimage.serving.dispatch.routing import LiveRouter
from catimage.serving.messages import ServingError
from catimage.serving.rollout.follower import RolloutFollower
from catimage.serving.state.store import State
from catimage.serving.telemetry.facade import Telemetry
from catimage.workspace import Workspace

_LOG = logging.getLogger(__name__)


class RouterHolder:
    """The router in use.

    Args:
        workspace: the workspace with ``params.yaml`` and ``models/router``.
        settings: the section ``serving`` of the parameters.
        state: what the replicas share.
        telemetry: metrics and logs of the process.
        replica: identifier of this process in the list of replicas.

    Attributes:
        live: the router in use; None before the first one is loaded.
        problem: why there is no router in use, or why it is the fallback; empty otherwise.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: ServingParams,
        state: State,
        telemetry: Telemetry,
        replica: str,
    ) -> None:
        self._workspace, self._settings, self._state = workspace, settings, state
        self._telemetry = telemetry
        self._rollouts = RolloutFollower(state, replica, settings.refresh_seconds)
        self._loading: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self.live: LiveRouter | None = None
        self.problem = "the router is being loaded"

    def start(self) -> None:
        """Start to load the router of the workspace or the published one, and return at once."""
        self._loading = asyncio.create_task(self._load())

    async def close(self) -> None:
        """Stop, and write the budgets to the shared state."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self._rollouts.close()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self.live is not None:
            await self.live.close()

    def require(self) -> LiveRouter:
        """Return the router in use.

        Raises:
            ServingError: it is being loaded (503).
        """
        if self.live is None:
            message = f"service: not ready ({self.problem}). Try again later."
            raise ServingError(message, 503, "starting", retry_after=2.0)
        return self.live

    async def use(self, versions: Versions, digest: str) -> None:
        """Use other versions of the router, see :meth:`catimage.serving.core.Core.use`."""
        old = self.require().loaded
        await self._install(with_versions(old, versions, digest, self._settings))

    async def _load(self) -> None:
        try:
            loaded = await asyncio.to_thread(load_router, self._workspace, self._settings)
            await self._follow(loaded)
        except Exception as error:  # reported by the readiness check, and logged
            self.problem = str(error) if isinstance(error, InputError) else type(error).__name__
            _LOG.exception("neither the router nor its fallback can be loaded")

    async def _follow(self, own: LoadedRouter) -> None:
        """Use the published routers, or that of the workspace, and follow later publications."""

        async def use(versions: Versions, digest: str) -> None:
            present = self.live.loaded if self.live else own
            if versions == own.versions:
                await self._install(own)
            else:
                await self._install(with_versions(present, versions, digest, self._settings))

        await self._rollouts.begin(own.versions, own.digest, use)
        if self.live is None:
            await self._install(own)
        self._rollouts.start()

    async def _install(self, loaded: LoadedRouter) -> None:
        live = LiveRouter(loaded, self._settings, self._state)
        try:
            await live.start()
        except BaseException:
            await live.close()
            raise
        old, self.live, self.problem = self.live, live, loaded.problem
        self._telemetry.router(loaded.version, loaded.facts.cost_unit)
        if old is not None:  # it counts the costs of its requests, which may take minutes
            task = asyncio.create_task(old.close())
            self._retiring.add(task)
            task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._retiring.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a router that was replaced cannot be closed", exc_info=error)

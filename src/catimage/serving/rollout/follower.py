"""Follows the published routers: a router process loads them and uses them without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool

from catimage.errors import InputError
from catimage.serving.decisions.versions import FALLBACK_VERSION, RouterVersion, Versions
from catimage.serving.messages import ServingError
from catimage.serving.rollout.published import load_published
from catimage.serving.state.rollouts import Rollout
from catimage.serving.state.store import State

REPORT_SECONDS = 4.0
"""Interval of the reports to the shared state."""
RETRY_SECONDS = 60.0
"""Time after which a router that could not be used is tried again."""
_LOG = logging.getLogger(__name__)

Use = Callable[[Versions, str], Awaitable[None]]
"""Decides the requests that arrive from now on with other versions of the router.

The second argument is the digest of the champion's folder. If it raises an exception, nothing has
changed. It raises InputError if the versions cannot be used, for example because the pool lacks a
candidate.
"""


class RolloutFollower:
    """Polls the published routers, loads them in a thread, and reports what is served.

    A router that cannot be loaded or used leaves the previous one in place, and the report says
    why.

    Args:
        state: the shared state.
        replica_id: identifier of this process.
        refresh_seconds: interval of the polls.
    """

    def __init__(self, state: State, replica_id: str, refresh_seconds: float) -> None:
        self._state, self._replica, self._interval = state, replica_id, refresh_seconds
        self._own, self._own_digest = Versions(), ""
        self._served, self._rollouts = Versions(), dict[str, Rollout]()
        self._failed: dict[str, tuple[Rollout | None, str, float]] = {}
        self._reported, self._unreachable = 0.0, False
        self._use: Use | None = None
        self._task: asyncio.Task[None] | None = None

    async def begin(self, own: Versions, digest: str, use: Use) -> None:
        """Use the published routers, if there are any, before the first request.

        Args:
            own: the router of the Bento, which is used without a published champion.
            digest: digest of its folder; empty if it could not be loaded.
            use: changes over to other versions.
        """
        self._own, self._own_digest, self._served, self._use = own, digest, own, use
        try:
            await self._follow_published()
        except ServingError as error:
            self._warn(error)

    def start(self) -> None:
        """Follow the published routers until :meth:`close`; called after :meth:`begin`."""
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop, and remove this process from the list of replicas."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        with contextlib.suppress(ServingError):
            await run_in_threadpool(self._state.replicas.remove, self._replica)

    async def update(self) -> None:
        """Read the published routers once, change over if they differ, and report."""
        try:
            changed = await self._follow_published()
            if changed or time.monotonic() - self._reported >= REPORT_SECONDS:
                await run_in_threadpool(self._report)
                self._reported = time.monotonic()
            self._unreachable = False
        except ServingError as error:
            self._warn(error)

    async def _follow(self) -> None:
        while True:
            try:
                await self.update()
            except Exception:  # never end: a later publication may succeed
                _LOG.exception("rollouts: the update failed")
            await asyncio.sleep(self._interval)

    def _warn(self, error: ServingError) -> None:
        """Log once that the database cannot be used; this process keeps its routers."""
        if not self._unreachable:
            _LOG.warning("rollouts cannot be followed: %s", error.message)
        self._unreachable = True

    async def _follow_published(self) -> bool:
        """Change over to the published routers; return whether there is anything to report."""
        published = await run_in_threadpool(self._state.rollouts.current)
        now, changed = time.monotonic(), False
        for role in ("champion", "challenger"):
            wanted, failed = published.get(role), self._failed.get(role)
            if failed is not None and (failed[0] != wanted or now - failed[2] >= RETRY_SECONDS):
                del self._failed[role]
                failed, changed = None, True
            if failed is None and wanted != self._rollouts.get(role):
                await self._attempt(role, wanted, now)
                changed = True
        return changed

    async def _attempt(self, role: str, wanted: Rollout | None, now: float) -> None:
        """Change one role; keep the previous router and the reason if that is impossible."""
        try:
            await self._change(role, wanted)
        except ServingError:
            raise
        except Exception as error:
            problem = str(error) if isinstance(error, InputError) else type(error).__name__
            name = f"version {wanted.version}" if wanted else "the router of the Bento"
            _LOG.exception("%s: %s cannot be used", role, name)
            self._failed[role] = (wanted, f"{role}: {name} cannot be used: {problem}", now)

    async def _change(self, role: str, wanted: Rollout | None) -> None:
        """Load the router of one role, and use it."""
        rollouts = {k: v for k, v in self._rollouts.items() if k != role}
        rollouts |= {role: wanted} if wanted else {}
        loaded = await self._load(role, wanted)
        champion = loaded if role == "champion" else self._served.champion
        challenger = loaded if role == "challenger" else self._served.challenger
        tried = rollouts.get("challenger")
        versions = Versions(
            champion,
            challenger,
            shadow=tried.shadow if tried else False,
            share=tried.share if tried else 0.0,
        )
        _check_comparable(versions)
        decided = rollouts.get("champion")
        assert self._use is not None
        await self._use(versions, decided.digest if decided else self._own_digest)
        self._served, self._rollouts = versions, rollouts
        _LOG.info("%s: %s", role, f"version {wanted.version}" if wanted else "none is published")

    async def _load(self, role: str, wanted: Rollout | None) -> RouterVersion | None:
        """Return the router of a role; files that are in use already are not loaded again."""
        if wanted is None:
            return self._own.champion if role == "champion" else None
        in_use = {"champion": self._served.champion, "challenger": self._served.challenger}
        for name, router in in_use.items():
            present = self._rollouts.get(name)
            if present and router and present.digest == wanted.digest:
                same = present.version == wanted.version
                return router if same else RouterVersion(wanted.version, router.router)
        return await run_in_threadpool(load_published, self._state.rollouts, wanted)

    def _report(self) -> None:
        champion = self._rollouts.get("champion")
        challenger = self._rollouts.get("challenger")
        own = self._own.champion.version if self._own.champion else FALLBACK_VERSION
        self._state.replicas.report(
            self._replica,
            champion.version if champion else own,
            champion.digest if champion else self._own_digest,
            challenger=challenger.version if challenger else "",
            challenger_digest=challenger.digest if challenger else "",
            shadow=self._served.shadow,
            share=self._served.share,
            problem=" ".join(problem for _, problem, _ in self._failed.values()),
        )


def _check_comparable(versions: Versions) -> None:
    """Raise InputError if requests cannot be shared between the champion and the challenger."""
    if versions.champion is None or versions.challenger is None:
        return
    champion, challenger = versions.champion.router, versions.challenger.router
    for name in ("metric", "cost_unit"):
        expected, found = getattr(champion, name), getattr(challenger, name)
        if expected != found:
            raise InputError(
                f"{name}: the challenger has {found}, the champion {expected}. Promote the"
                " challenger without a canary or shadow."
            )

"""The ASGI applications of the processes. Models are loaded in the background after the start."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from catimage.errors import InputError
from catimage.params import load_params
from catimage.serving.bento.addresses import group_urls
from catimage.serving.bento.process import AsgiApp, GracefulApp, end_process
from catimage.serving.bento.supervisor import drain_time
from catimage.serving.settings import load_environment, load_settings
from catimage.workspace import Workspace

if TYPE_CHECKING:
    from catimage.pool.spec import Pool
    from catimage.serving.api.backend import Backend
    from catimage.serving.bento.inner import GroupProcess
    from catimage.serving.generator.client import Group
    from catimage.serving.generator.engine import Engine


def router_application(groups: Sequence[str], drain_seconds: float) -> AsgiApp:
    """Return the application of the router process.

    Args:
        groups: names of the generator services.
        drain_seconds: seconds that accepted requests have to finish after SIGTERM.
    """
    from catimage.serving.api.app import create_app
    from catimage.serving.telemetry.facade import configure

    configure("router")
    app = create_app(partial(open_backend, groups))
    cleanup = partial(remove_sockets, groups)
    return GracefulApp(app, app.state.runtime.drain, drain_time(drain_seconds), cleanup)


def group_application(
    name: str, group: type[GroupProcess], cleanup: Callable[[], None] | None = None
) -> AsgiApp:
    """Return the application of a generator process.

    Args:
        name: name of the group.
        group: its class in the service module, which names the generators and the device.
        cleanup: removes files that the supervisor has left; by default :func:`remove_sockets`.
    """
    from catimage.serving.generator.app import generator_app
    from catimage.serving.telemetry.facade import configure

    configure(name)
    app = generator_app(partial(_open_engine, name, group), name, end_process)
    seconds = drain_time(group.drain_seconds)

    async def drain() -> None:
        await app.state.engine.drain(seconds)
        app.state.ending.set()

    return GracefulApp(app, drain, seconds, cleanup or partial(remove_sockets, [name]))


def group_application_in_child(name: str, group: type[GroupProcess]) -> AsgiApp:
    """Return the application of a generator process, in a child process on a CPU.

    This process stays in standby, and replaces a child process that is killed; see
    :mod:`catimage.serving.bento.standby`.
    """
    from catimage.serving.bento.standby import import_libraries, serve_in_child
    from catimage.serving.telemetry.facade import configure

    configure(name)
    try:
        forks = import_libraries(_pool(), group.device, group.generators)
    except InputError:  # the engine reads the pool again and reports the problem
        forks = False
    if not forks:
        return group_application(name, group)
    serve_in_child(partial(remove_sockets, [name]))
    return group_application(name, group, cleanup=lambda: None)


def _open_engine(name: str, group: type[GroupProcess]) -> Engine:
    """Return the engine of a group; it may block."""
    from catimage.serving.generator.engine import Engine

    return Engine(_pool(), group.device, group.generators, name)


def _pool() -> Pool:
    from catimage.pool.loading import load_pool

    workspace = _workspace()
    return load_pool(load_params(workspace.params).pool, workspace.pools)


def _workspace() -> Workspace:
    return Workspace(load_environment().workspace.expanduser().absolute())


async def open_backend(groups: Sequence[str]) -> Backend:
    """Open the core, the state and the telemetry of a router process.

    Args:
        groups: names of the generator services.

    Raises:
        InputError: a setting is invalid, or the address of a group is unknown.
        ServingError: the database of the state cannot be used.
    """
    from catimage.serving.generator.client import RemoteGroup
    from catimage.serving.telemetry.tracing import tracing

    urls, headers = group_urls(groups), tracing().headers
    clients = {name: RemoteGroup(name, url, headers) for name, url in urls.items()}
    return await run_in_threadpool(_open, clients)


def _open(clients: Mapping[str, Group]) -> Backend:
    from catimage.serving.api.backend import Backend
    from catimage.serving.core import Core
    from catimage.serving.limits import RateLimits
    from catimage.serving.state.store import State
    from catimage.serving.telemetry.facade import Telemetry

    environment, workspace = load_environment(), _workspace()
    params = load_params(workspace.params)
    settings, name = load_settings(params.serving), params.package.name
    state = State.open(environment.state(name), refresh_seconds=settings.refresh_seconds)
    secret = environment.secret.encode() or state.secret()
    replica = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    telemetry = Telemetry.open(settings, environment.decision_log(name), replica, secret)
    limiter = RateLimits(
        settings.rate_limit, environment.redis_url or None, telemetry.rate_limiter_outage
    )
    core = Core(workspace, settings, clients, state, telemetry, replica)
    _exclude_libraries_from_collection()
    return Backend(core, state, telemetry, settings, secret, limiter)


def _exclude_libraries_from_collection() -> None:
    """Exclude the present objects from garbage collections, each of which stops all requests.

    Of the 200,000 objects of a router process, nearly all belong to imported libraries. A
    collection of them takes 0.1 s.
    """
    gc.collect()
    gc.freeze()


def remove_sockets(groups: Sequence[str]) -> None:
    """Remove the sockets of the groups, which a killed supervisor has left."""
    for url in group_urls(groups).values():
        if url.startswith("unix://"):
            shutil.rmtree(Path(url.removeprefix("unix://")).parent, ignore_errors=True)

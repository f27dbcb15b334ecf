"""Classes of the BentoML services, which the service module of a Bento names.

The stage package writes the service module (template ``service.py.j2``). Importing it
reads no files and imports no models: the module is imported in the supervisor too, which only
starts the processes. All HTTP requests are answered by the applications of
:mod:`catimage.serving.api` and :mod:`catimage.serving.generator`. The routes, the index page, the
middlewares and the proxies of BentoML are not used, because they close connections after a number
of requests, use pickle between services, and load a page from another host.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml
from bentoml import Service

from catimage.serving.bento import supervisor
from catimage.serving.bento.addresses import group_url
from catimage.serving.bento.inner import GroupProcess, RouterProcess
from catimage.serving.bento.process import AsgiApp

__all__ = ["GroupProcess", "RouterProcess", "depends", "group_options", "router_options"]
NEVER = 10.0**9
"""Seconds; a time limit of BentoML that is never reached. The service has limits of its own."""


class GroupService(Service[GroupProcess]):  # type: ignore[misc]
    """A generator service, whose application is that of :mod:`catimage.serving.generator`."""

    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        """Return the application of the process."""
        from catimage.serving.bento.applications import group_application_in_child

        return group_application_in_child(self.name, self.inner)

    def needs_task_db(self) -> bool:
        """Install the supervisor; BentoML calls this method before it starts the processes."""
        supervisor.install(self.inner.drain_seconds)
        return False


class RouterService(Service[RouterProcess]):  # type: ignore[misc]
    """The router service, whose application is that of :mod:`catimage.serving.api`."""

    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        """Return the application of the process."""
        from catimage.serving.bento.applications import router_application

        groups = [dependency.on.name for dependency in self.dependencies.values()]
        return router_application(groups, self.inner.drain_seconds)

    def needs_task_db(self) -> bool:
        """Install the supervisor; BentoML calls this method before it starts the processes."""
        supervisor.install(self.inner.drain_seconds)
        return False


def depends(service: Service[GroupProcess]) -> Any:
    """Return BentoML's dependency on a generator service.

    BentoML starts the service, unless ``CATIMAGE_GROUP_URLS`` has its address.
    """
    return bentoml.depends(service, url=group_url(service.name))


def group_options(gpus: int) -> dict[str, Any]:
    """Return the options of BentoML for a generator service.

    Args:
        gpus: number of GPUs of the service.
    """
    options = {"service_class": GroupService, **_options()}
    return options | ({"resources": {"gpu": gpus}} if gpus else {})


def router_options() -> dict[str, Any]:
    """Return the options of BentoML for the router service."""
    return {"service_class": RouterService, **_options()}


def _options() -> dict[str, Any]:
    """Return the options of all services.

    By default, a service listens on 127.0.0.1, in a container on all addresses; the options
    ``--host`` and ``--port`` of ``bentoml serve`` replace these. The time limits, the log and the
    metrics of BentoML are not used.
    """
    contained = {"BENTOML_CONTAINERIZED", "BENTOCLOUD_DEPLOYMENT_URL"} & {*os.environ}
    host = "0.0.0.0" if contained else "127.0.0.1"
    return {
        "workers": 1,
        "http": {"host": host, "port": 3000},
        "traffic": {"timeout": NEVER},
        "runner_connection": {"max_requests": 10**9, "max_age": NEVER},
        "runner_probe": {"enabled": False},
        "logging": {"access": {"enabled": False}},
        "metrics": {"enabled": False},
    }

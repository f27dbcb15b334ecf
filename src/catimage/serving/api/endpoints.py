"""The table of the routes, which the application, the checks of keys and the logs share."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """One route.

    Attributes:
        method: HTTP method.
        path: path with parameters, as in Starlette.
        handler: answers the requests.
        summary: one line for the OpenAPI document.
        public: whether the route needs no key even if keys are configured.
        health: whether the route is answered while the service shuts down.
        body: model of the request body; None if the route has no body.
        answers: media type and model of the success response, by status.
        errors: statuses of the error responses.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    public: bool = False
    health: bool = False
    body: type[BaseModel] | None = None
    answers: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    errors: tuple[int, ...] = ()

    @cached_property
    def template(self) -> str:
        """The path without the types of its parameters, for logs and metrics."""
        return compile_path(self.path)[1]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The pattern of the paths of this route."""
        return compile_path(self.path)[0]


class EndpointTable:
    """Finds the routes of a path."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._exact: dict[str, list[Endpoint]] = {}
        for endpoint in self.endpoints:
            if "{" not in endpoint.path:
                self._exact.setdefault(endpoint.path, []).append(endpoint)
        self._patterns = [e for e in self.endpoints if "{" in e.path]

    def at(self, path: str) -> list[Endpoint]:
        """Return the routes of a path, one per method; the first matching template counts."""
        if path in self._exact:
            return self._exact[path]
        found = [e for e in self._patterns if e.pattern.match(path)]
        return [e for e in found if e.path == found[0].path]

    def public(self, template: str, method: str) -> bool:
        """Return whether the route of a template needs no key."""
        return any(
            e.public for e in self.endpoints if (e.template, e.method) == (template, method.upper())
        )

    @staticmethod
    def methods(endpoints: Iterable[Endpoint]) -> str:
        """Return the value of the header ``Allow`` for the routes of a path."""
        names = {e.method for e in endpoints}
        return ", ".join(sorted(names | {"OPTIONS"} | ({"HEAD"} if "GET" in names else set())))

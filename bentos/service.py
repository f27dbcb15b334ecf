"""The services: a router in front of the generators, with OpenAI's routes under ``/v1``.

``bentoml serve`` finds a service among the globals of this module by identity, so nothing here is
made by a factory. The served folder is a small workspace (``params.yaml``, ``models/router``,
``pools``): the Bento's own, or that of ``CATIMAGE_WORKSPACE``.
"""

from __future__ import annotations

import base64
import io
import os
import secrets
import time
from pathlib import Path
from typing import Any

import bentoml
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bentos.api import ApiError, ImagesRequest, RouteRequest, on_error, read
from catimage.errors import InputError
from catimage.params import load_params
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from catimage.router import Decision, Router
from catimage.routing.randomized import Rule
from catimage.workspace import Workspace

ROUTER = "catimage"
"""The model's name that routes; any candidate's name forces that candidate."""


def _workspace() -> Workspace:
    return Workspace(Path(os.environ.get("CATIMAGE_WORKSPACE", ".")).resolve())


def _pool(workspace: Workspace) -> Pool:
    return load_pool(load_params(workspace.params).pool, workspace.pools)


@bentoml.service(name="generators", traffic={"timeout": 300})
class Generators:
    """Every generator of the pool, loaded once, on this device; where its memory is short, those
    that rest make room.
    """

    def __init__(self) -> None:
        workspace = _workspace()
        pool, device = _pool(workspace), load_params(workspace.params).generate.device
        self.candidates = {c.candidate: c for c in pool.candidates}
        self.opened = GeneratorCache(pool, device)
        self.opened.prepare()
        for name in pool.generators:  # now, not with the first request
            self.opened.get(name)

    @bentoml.api
    def generate(self, candidate: str, prompt: str, seeds: list[int]) -> list[str]:
        """One image a seed, as base64 of a PNG."""
        from PIL import Image

        chosen = self.candidates[candidate]
        made = []
        for image in self.opened.get(chosen.generator).generate(
            [prompt] * len(seeds), chosen, seeds
        ):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            made.append(base64.b64encode(buffer.getvalue()).decode())
        return made


async def post_images(request: Request) -> JSONResponse:
    """``POST /v1/images/generations``."""
    asked = await read(request, ImagesRequest)
    return JSONResponse(await bentoml.get_current_service().images(asked))


async def post_route(request: Request) -> JSONResponse:
    """``POST /v1/route``."""
    asked = await read(request, RouteRequest)
    return JSONResponse(await run_in_threadpool(bentoml.get_current_service().route, asked))


async def get_models(_: Request) -> JSONResponse:
    """``GET /v1/models``."""
    return JSONResponse(bentoml.get_current_service().models())


async def nothing(request: Request) -> JSONResponse:
    """Any other path or method."""
    routes = "GET /v1/models, POST /v1/images/generations and POST /v1/route"
    raise ApiError(
        f"There is no {request.method} {request.url.path}: the routes are {routes}.",
        None,
        "unknown_url",
        404,
    )


app = Starlette(
    routes=[
        Route("/images/generations", post_images, methods=["POST"]),
        Route("/route", post_route, methods=["POST"]),
        Route("/models", get_models, methods=["GET"]),
        Route("/{path:path}", nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    ],
    exception_handlers={ApiError: on_error, Exception: on_error},
)


@bentoml.service(name="router", traffic={"timeout": 300})
@bentoml.asgi_app(app, path="/v1")
class RouterService:
    """Decides by equation 3, and has the generators make the image."""

    generators = bentoml.depends(Generators)

    def __init__(self) -> None:
        workspace = _workspace()
        pool = _pool(workspace)
        self.router = Router.load(workspace.router)
        self.sizes = {c.candidate: pool.generators[c.generator].size for c in pool.candidates}
        self.created = int((workspace.router / "router.json").stat().st_mtime)
        if missing := [c for c in self.router.candidates if c not in self.sizes]:
            raise InputError(
                f"{workspace.router}: the pool {pool.name!r} lacks {', '.join(missing)}: run"
                " 'catimage calibrate' again."
            )
        self.router.predict(
            ["an empty white wall"]
        )  # loads the text encoder now, not with the first request

    async def __is_ready__(self) -> bool:
        """``/readyz`` says 503 while the generators load; BentoML's own probe of them raises there,
        and leaves the caller hanging.
        """
        probe = getattr(self.generators, "is_ready", None)  # a service in the same process has none
        try:
            return probe is None or await probe(timeout=2)
        except OSError:
            return False

    async def images(self, asked: ImagesRequest) -> dict[str, Any]:
        """OpenAI's answer with base64 PNGs, and under ``catimage`` what was decided."""
        decision = await run_in_threadpool(self.decide, asked, asked.model)
        size = self.sizes[decision.candidate]
        if asked.size not in ("auto", f"{size}x{size}"):
            raise ApiError(
                f"'size' must be '{size}x{size}', all that {decision.candidate} makes, or be left"
                " out.",
                "size",
            )
        seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
        seeds = list(range(seed, seed + asked.n))
        made = await self.generators.to_async.generate(
            candidate=decision.candidate, prompt=asked.prompt, seeds=seeds
        )
        return {
            "created": int(time.time()),
            "data": [{"b64_json": image} for image in made],
            "catimage": self._decided(decision, asked.model) | {"seed": seed},
        }

    def route(self, asked: RouteRequest) -> dict[str, Any]:
        """The decision, with predicted quality and cost of every candidate, cheapest first."""
        decision = self.decide(asked)
        rows = zip(
            self.router.candidates,
            self.router.costs.tolist(),
            decision.qualities.values(),
            strict=True,
        )
        candidates = [
            {"candidate": name, "cost": cost, "predicted_quality": quality}
            for name, cost, quality in rows
        ]
        more = {
            "prompt": asked.prompt,
            "metric": self.router.metric,
            "estimator": self.router.estimator_name,
            "candidates": candidates,
        }
        return self._decided(decision, ROUTER) | more

    def models(self) -> dict[str, Any]:
        """OpenAI's list: the router, and the candidates with their costs (one image each)."""
        common = {"object": "model", "created": self.created, "owned_by": "catimage"}
        costs = zip(self.router.candidates, self.router.costs.tolist(), strict=True)
        rows = [
            {"id": name, **common, "cost": cost, "cost_unit": self.router.cost_unit}
            for name, cost in costs
        ]
        return {"object": "list", "data": [{"id": ROUTER, **common}, *rows]}

    def decide(self, asked: RouteRequest, model: str = ROUTER) -> Decision:
        """The router's decision, or the candidate ``model`` with what is predicted of it.

        Raises:
            ApiError: 400 for a budget below the cheapest candidate, or another one than floors were
                calibrated for, an empty or endless prompt, an unknown model, or a forced one with a
                budget.
        """
        known = self.router.candidates
        if model != ROUTER and model not in known:
            raise ApiError(
                f"The model {model!r} does not exist: there are {ROUTER}, {', '.join(known)}.",
                "model",
                "model_not_found",
            )
        if model != ROUTER and (asked.budget is not None or asked.lam is not None):
            raise ApiError(
                f"'budget' and 'lambda' need the model {ROUTER!r}: {model!r} is one candidate.",
                "model",
            )
        rule = _refused("budget", self._rule, asked)
        qualities = _refused("prompt", self.router.predict, [asked.prompt])
        decision = self.router.decide([asked.prompt], qualities, rule)[0]
        if model == ROUTER:
            return decision
        cost, quality = float(self.router.costs[known.index(model)]), decision.qualities[model]
        return Decision(asked.prompt, model, cost, quality, decision.lam, decision.qualities)

    def _rule(self, asked: RouteRequest) -> Rule:
        return self.router.rule_for(asked.lam, asked.budget)

    def _decided(self, decision: Decision, model: str) -> dict[str, Any]:
        return {
            "candidate": decision.candidate,
            "cost": decision.cost,
            "cost_unit": self.router.cost_unit,
            "predicted_quality": decision.predicted_quality,
            "lambda": decision.lam if model == ROUTER else None,
        }


def _refused(field: str, call: Any, argument: Any) -> Any:
    """The call's result; what it says of bad input becomes a 400 that names the request's field."""
    try:
        return call(argument)
    except InputError as error:
        message = str(error)
        raise ApiError(message[0].upper() + message[1:], field) from error

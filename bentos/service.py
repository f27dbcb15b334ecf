"""BentoML services: the router, with OpenAI's routes at ``/v1``, and the generators.

The services read a workspace with ``params.yaml``, ``models/router`` and ``pools``: the current
folder, which is the content of the Bento, or the folder in ``CATIMAGE_WORKSPACE``. They are global
names of this module, because BentoML cannot find services that a function creates.
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
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bentos.api import (
    ROUTES,
    ApiError,
    ImagesRequest,
    RouteRequest,
    decision_seed,
    input_errors,
    on_error,
    parse_body,
)
from catimage.errors import InputError
from catimage.params import load_params
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from catimage.router import Decision, Router
from catimage.workspace import Workspace

ROUTER = "catimage"
"""The model name of the router. The name of a candidate selects that candidate instead."""


def _workspace() -> Workspace:
    """Return the workspace from which the services are loaded."""
    return Workspace(Path(os.environ.get("CATIMAGE_WORKSPACE", ".")).resolve())


def _load_pool(workspace: Workspace) -> Pool:
    return load_pool(load_params(workspace.params).pool, workspace.pools)


@bentoml.service(name="generators", traffic={"timeout": 300})
class Generators:
    """All generators of the pool, loaded at the start.

    If the memory of the device is too small, idle generators are evicted.
    """

    def __init__(self) -> None:
        workspace = _workspace()
        pool, device = _load_pool(workspace), load_params(workspace.params).generate.device
        self.candidates = {c.candidate: c for c in pool.candidates}
        self.generators = GeneratorCache(pool, device)
        self.generators.prepare()
        for name in pool.generators:
            self.generators.get(name)

    @bentoml.api  # type: ignore[untyped-decorator]
    def generate(self, candidate: str, prompt: str, seeds: list[int]) -> list[str]:
        """Return one image per seed as a base64-encoded PNG."""
        from PIL import Image

        spec = self.candidates[candidate]
        images = self.generators.get(spec.generator).generate([prompt] * len(seeds), spec, seeds)
        encoded = []
        for image in images:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            encoded.append(base64.b64encode(buffer.getvalue()).decode())
        return encoded


async def post_images(request: Request) -> JSONResponse:
    """Handle ``POST /v1/images/generations``."""
    body = await parse_body(request, ImagesRequest)
    service, seed = bentoml.get_current_service(), decision_seed(request, body)
    return JSONResponse(await service.images(body, seed))


async def post_route(request: Request) -> JSONResponse:
    """Handle ``POST /v1/route``."""
    body = await parse_body(request, RouteRequest)
    service, seed = bentoml.get_current_service(), decision_seed(request, body)
    return JSONResponse(await run_in_threadpool(service.route, body, seed))


async def get_models(_: Request) -> JSONResponse:
    """Handle ``GET /v1/models``."""
    return JSONResponse(bentoml.get_current_service().models())


async def not_found(request: Request) -> JSONResponse:
    """Respond to every other path and method with status 404."""
    message = f"{request.method} {request.url.path}: no such route. Use one of {ROUTES}."
    raise ApiError(message, None, "unknown_url", 404)


app = Starlette(
    routes=[
        Route("/images/generations", post_images, methods=["POST"]),
        Route("/route", post_route, methods=["POST"]),
        Route("/models", get_models, methods=["GET"]),
        Route("/{path:path}", not_found, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    ],
    exception_handlers={ApiError: on_error, HTTPException: on_error, Exception: on_error},
)


@bentoml.service(name="router", traffic={"timeout": 300})
@bentoml.asgi_app(app, path="/v1")
class RouterService:
    """Chooses a candidate by equation 3 of the CATImage paper and requests its images."""

    generators = bentoml.depends(Generators)

    def __init__(self) -> None:
        workspace = _workspace()
        pool = _load_pool(workspace)
        self.router = Router.load(workspace.router)
        self.sizes = {c.candidate: pool.generators[c.generator].size for c in pool.candidates}
        self.created = int((workspace.router / "router.json").stat().st_mtime)
        if missing := [c for c in self.router.candidates if c not in self.sizes]:
            raise InputError(
                f"{workspace.router}: the pool {pool.name!r} lacks {', '.join(missing)}. Run"
                " 'catimage calibrate' again."
            )
        self.router.predict(["an empty white wall"])  # loads the text encoder at the start

    async def __is_ready__(self) -> bool:
        """Return whether the generators are loaded, for ``/readyz``.

        BentoML's own implementation raises an exception and sends no response during loading.
        """
        probe = getattr(self.generators, "is_ready", None)  # None if in this process
        try:
            return probe is None or bool(await probe(timeout=2))
        except OSError:
            return False

    async def images(self, request: ImagesRequest, draw: int | str | None) -> dict[str, Any]:
        """Return OpenAI's response with base64-encoded PNGs, and the decision in ``catimage``.

        Raises:
            ApiError: the candidate has another size, or there is no decision (:meth:`decide`).
        """
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        draw = seed if draw is None else draw
        decision = await run_in_threadpool(self.decide, request, request.model, draw)
        size = self.sizes[decision.candidate]
        if request.size not in ("auto", f"{size}x{size}"):
            message = (
                f"size: {decision.candidate} generates {size}x{size} pixels (found"
                f" {request.size!r}). Use '{size}x{size}', or omit the field."
            )
            raise ApiError(message, "size")
        seeds = list(range(seed, seed + request.n))
        images = await self.generators.to_async.generate(
            candidate=decision.candidate, prompt=request.prompt, seeds=seeds
        )
        return {
            "created": int(time.time()),
            "data": [{"b64_json": image} for image in images],
            "catimage": self._summary(decision, request.model) | {"seed": seed},
        }

    def route(self, request: RouteRequest, draw: int | str | None) -> dict[str, Any]:
        """Return the decision, with the predicted quality and cost of each candidate.

        Raises:
            ApiError: there is no decision (:meth:`decide`).
        """
        decision = self.decide(request, ROUTER, draw)
        candidates = [
            {"candidate": name, "cost": cost, "predicted_quality": decision.qualities[name]}
            for name, cost in self._costs()
        ]
        return self._summary(decision, ROUTER) | {
            "prompt": request.prompt,
            "metric": self.router.metric,
            "estimator": self.router.estimator_name,
            "candidates": candidates,
        }

    def models(self) -> dict[str, Any]:
        """Return OpenAI's list of models: the router, and the candidates with their costs."""
        common = {"object": "model", "created": self.created, "owned_by": "catimage"}
        rows = [
            {"id": name, **common, "cost": cost, "cost_unit": self.router.cost_unit}
            for name, cost in self._costs()
        ]
        return {"object": "list", "data": [{"id": ROUTER, **common}, *rows]}

    def decide(self, request: RouteRequest, model: str, draw: int | str | None) -> Decision:
        """Return the router's decision, or one for the candidate ``model``; ``draw`` is its seed.

        Raises:
            ApiError: the budget is below the cost of the cheapest candidate, the router has floors
                that were calibrated for another budget, the prompt is empty or too long, the model
                is unknown, or a candidate is requested together with a budget or a lambda.
        """
        if model != ROUTER:
            self._check_model(request, model)
        with input_errors("budget"):
            rule = self.router.rule_for(request.lam, request.budget)
        with input_errors("prompt"):
            qualities = self.router.predict([request.prompt])
        decision = self.router.decide([request.prompt], qualities, rule, draw)[0]
        if model == ROUTER:
            return decision
        cost, quality = dict(self._costs())[model], decision.qualities[model]
        return Decision(request.prompt, model, cost, quality, decision.lam, decision.qualities)

    def _check_model(self, request: RouteRequest, model: str) -> None:
        """Check that ``model`` is a candidate and that the request has no budget and no lambda."""
        names = self.router.candidates
        if model not in names:
            message = f"model: unknown name {model!r}. Use {ROUTER!r} or one of {', '.join(names)}."
            raise ApiError(message, "model", "model_not_found")
        if request.budget is not None or request.lam is not None:
            message = f"model: {model!r} supports no budget or lambda. Use {ROUTER!r} or omit both."
            raise ApiError(message, "model")

    def _costs(self) -> list[tuple[str, float]]:
        """Return the names and costs of the candidates, cheapest first."""
        return list(zip(self.router.candidates, self.router.costs.tolist(), strict=True))

    def _summary(self, decision: Decision, model: str) -> dict[str, Any]:
        """Return the fields that both routes return; lambda is None if a candidate is requested."""
        return {
            "candidate": decision.candidate,
            "cost": decision.cost,
            "cost_unit": self.router.cost_unit,
            "predicted_quality": decision.predicted_quality,
            "lambda": decision.lam if model == ROUTER else None,
        }

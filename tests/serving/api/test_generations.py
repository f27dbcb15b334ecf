"""``POST /v1/images/generations`` over HTTP, with the real core and a scripted generator group."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from PIL import Image

from catimage.serving.generator.failures import PromptModerated, TaskFailed
from catimage.serving.tasks import FinishedImage, FinishedTask, ImageTask, TaskEvent
from tests.serving.api.harness import GENERATIONS, PROMPT, Service, run
from tests.serving.cores import CANDIDATES
from tests.serving.groups import pixels_of

JSON_TYPE = {"Content-Type": "application/json"}
OPTIONAL = (  # noqa: SIM905
    "background complexity frame_count frame_duration_ms model moderation n output_compression"
    " output_format partial_images quality response_format safety_identifier size stream style svg"
    " user budget lambda max_latency_ms seed negative_prompt explain"
).split()


async def flagged(task: ImageTask) -> AsyncIterator[TaskEvent]:
    """Flag the first image of a task, and make the others."""
    for i in range(len(task.seeds)):
        yield FinishedImage(i, None if i == 0 else pixels_of(task, i), "unsafe" if i == 0 else None)
    yield FinishedTask(0.0, 0.0, len(task.seeds))


async def refused(task: ImageTask) -> AsyncIterator[TaskEvent]:
    raise PromptModerated("prompt: refused by the provider. Change it.")
    yield FinishedTask(0.0, 0.0, 1)


async def failed(task: ImageTask) -> AsyncIterator[TaskEvent]:
    raise TaskFailed("mini: failed. See the log.")
    yield FinishedTask(0.0, 0.0, 1)


def decoded(item: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(item["b64_json"])))


def test_answer_has_the_images_and_says_what_they_cost(root: Path) -> None:
    async def check(service: Service) -> None:
        answer = await service.document(n=3, seed=7, model="mini-2")
        summary = answer["catimage"]
        assert summary["candidate"] == "mini-2" and summary["cost_unit"] == "tflops"
        assert (summary["cost"], summary["saved"], summary["reference"]) == (6.0, 6.0, "mini-4")
        assert (summary["seed"], summary["lambda"], summary["fallbacks"]) == (7, None, {})
        assert set(summary["seconds"]) == {"route", "queue", "generate", "total"}
        assert answer["usage"]["total_tokens"] == answer["usage"]["input_tokens"]
        assert (answer["size"], answer["output_format"]) == ("8x8", "png")
        task = ImageTask("r", "mini-2", PROMPT, (7, 8, 9))
        for i, item in enumerate(answer["data"]):
            assert (np.asarray(decoded(item)) == pixels_of(task, i)).all()

    run(root, check)


def test_null_means_left_out_for_every_optional_field(root: Path) -> None:
    async def check(service: Service) -> None:
        answer = await service.document(**dict.fromkeys(OPTIONAL))
        assert len(answer["data"]) == 1 and answer["catimage"]["ignored_fields"] == []

    run(root, check)


def test_fields_without_effect_are_accepted_and_listed(root: Path) -> None:
    async def check(service: Service) -> None:
        fields = {"user": "u", "style": "vivid", "moderation": "low", "complexity": "low"}
        answer = await service.document(
            **fields, safety_identifier="s", background="auto", stream=False, output_compression=50
        )
        ignored = answer["catimage"]["ignored_fields"]
        assert set(ignored) == {*fields, "safety_identifier", "output_compression"}
        assert answer["safety_identifier"] == "s"

    run(root, check)


@pytest.mark.parametrize(
    ("quality", "cost"), [("low", 1.0), ("medium", None), ("high", 4.0), ("hd", 4.0)]
)
def test_quality_is_a_budget_that_the_operator_configures(
    root: Path, quality: str, cost: float | None
) -> None:
    async def check(service: Service) -> None:
        answer = await service.document(quality=quality)
        assert cost is None or answer["catimage"]["cost"] <= cost
        assert answer["quality"] == ("high" if quality == "hd" else quality)

    run(root, check, qualities={"low": "30%", "medium": "60%", "high": "100%", "hd": "100%"})


@pytest.mark.parametrize(
    ("fields", "status", "code", "param", "text"),
    [
        ({"qality": "low"}, 400, "unknown_parameter", "qality", "did you mean 'quality'?"),
        ({"background": "transparent"}, 400, "invalid_value", "background", "transparent"),
        ({"output_format": "svg"}, 400, "invalid_value", "output_format", "Use 'png'"),
        ({"frame_count": 3}, 400, "unsupported_parameter", "frame_count", "animations"),
        ({"size": "512x512"}, 400, "invalid_value", "size", "Use 64x64"),
        ({"size": "big"}, 400, "invalid_value", "size", "'auto'"),
        ({"n": 11}, 400, "invalid_value", "n", "found 11"),
        ({"n": True}, 400, "invalid_type", "n", "found True"),
        ({"model": "mini-3"}, 404, "model_not_found", "model", "did you mean 'mini-"),
        ({"model": "mini-1", "budget": 2}, 400, "invalid_value", "budget", "candidate"),
        ({"budget": 2, "lambda": 1}, 400, "invalid_value", "budget", "both"),
        ({"budget": 0}, 400, "invalid_value", "budget", "greater than 0"),
        ({"prompt": None}, 400, "missing_required_parameter", "prompt", "missing"),
        ({"prompt": ""}, 400, "invalid_value", "prompt", "1 to 32,000 characters"),
        ({"prompt": " \n"}, 400, "invalid_value", "prompt", "white space"),
        ({"prompt": "a" * 32_001}, 400, "invalid_value", "prompt", "1 to 32,000 characters"),
        ({"stream": True, "response_format": "url"}, 400, "invalid_value", "response_format", ""),
        ({"x" * 900_000: 1}, 400, "unknown_parameter", "x" * 37 + "...", "unknown field"),
    ],
    ids=lambda value: next(iter(value))[:20] if isinstance(value, dict) else "",
)
def test_invalid_fields_are_named(
    client: httpx.Client, fields: dict[str, Any], status: int, code: str, param: str, text: str
) -> None:
    content = orjson.dumps({"prompt": PROMPT, **fields})
    response = client.post(GENERATIONS, content=content, headers=JSON_TYPE)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert text in error["message"] and len(response.content) < 500
    assert error["type"] == "invalid_request_error"
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'"a"', b"\xff", b"[" * 5000, b'{"a": "\\ud800"}']
)
def test_a_body_that_is_not_a_json_object_is_a_400(client: httpx.Client, body: bytes) -> None:
    response = client.post("/v1/route", content=body, headers=JSON_TYPE)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


def test_a_number_of_thousands_of_digits_is_a_short_400(client: httpx.Client) -> None:
    content = b'{"prompt": "a", "n": ' + b"1" * 5000 + b"}"
    response = client.post(GENERATIONS, content=content, headers=JSON_TYPE)
    assert response.status_code == 400 and len(response.content) < 500


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_output_formats(root: Path, name: str) -> None:
    async def check(service: Service) -> None:
        answer = await service.document(output_format=name, output_compression=80)
        assert decoded(answer["data"][0]).format == name.upper()
        assert answer["output_format"] == name

    run(root, check)


def test_explain_adds_the_figures_of_all_candidates(root: Path) -> None:
    async def check(service: Service) -> None:
        summary = (await service.document(explain=True))["catimage"]
        assert set(summary["qualities"]) == set(summary["costs"]) == set(CANDIDATES)
        assert sum(summary["propensities"].values()) == pytest.approx(1)
        assert summary["ranked"][0] == summary["candidate"] and summary["excluded"] == {}
        assert "qualities" not in (await service.document())["catimage"]

    run(root, check)


def test_the_same_seed_gives_the_same_answer(root: Path) -> None:
    async def check(service: Service) -> None:
        first, second = await service.document(seed=3), await service.document(seed=3)
        assert first["data"] == second["data"]

    run(root, check)


def test_a_flagged_image_is_reported_and_not_returned(root: Path) -> None:
    async def check(service: Service) -> None:
        answer = await service.document(n=2)
        assert answer["data"][0] == {"flagged": "unsafe"} and "b64_json" in answer["data"][1]
        assert answer["catimage"]["flagged"] == [{"index": 0, "reason": "unsafe"}]
        error = await service.error(n=1)
        assert (error["status"], error["code"]) == (400, "moderation_blocked")
        assert error["type"] == "image_generation_user_error"

    run(root, check, flagged, flagged)


def test_a_refused_prompt_is_a_400(root: Path) -> None:
    async def check(service: Service) -> None:
        error = await service.error(model="mini-1")
        assert (error["status"], error["code"]) == (400, "moderation_blocked")

    run(root, check, refused)


def test_the_answer_names_the_candidates_that_failed(root: Path) -> None:
    async def check(service: Service) -> None:
        summary = (await service.document(budget=1.0))["catimage"]
        assert list(summary["fallbacks"]) == ["mini-1"] and summary["candidate"] != "mini-1"

    run(root, check, failed)


def test_urls_are_signed_and_expire(root: Path) -> None:
    async def check(service: Service) -> None:
        answer = await service.document(response_format="url")
        url = answer["data"][0]["url"]
        response = await service.client.get(url)
        assert response.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(response.content)).size == (8, 8)
        changed = "A" if url[-5] != "A" else "B"
        forged = await service.client.get(f"{url[:-5]}{changed}{url[-4:]}")
        assert (forged.status_code, forged.json()["error"]["code"]) == (404, "image_not_found")
        await asyncio.sleep(2.1)
        expired = await service.client.get(url)
        assert (expired.status_code, expired.json()["error"]["code"]) == (404, "image_expired")

    run(root, check, url_seconds=1)

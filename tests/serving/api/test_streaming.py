"""``stream: true``: events, errors, and clients that disconnect, also with OpenAI's client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image

from catimage.serving.api import streaming
from catimage.serving.generator.failures import TaskFailed
from catimage.serving.tasks import ImageTask, Preview, TaskEvent
from tests.serving.api.harness import GENERATIONS, PROMPT, Service, run, running_app
from tests.serving.api.server import Server, serving
from tests.serving.cores import CANDIDATES
from tests.serving.groups import ScriptedGroup, draw, hang, pixels_of


async def previews(task: ImageTask) -> AsyncIterator[TaskEvent]:
    """Send all previews of each image, then the images."""
    for i in range(len(task.seeds)):
        for number in range(task.previews):
            yield Preview(i, number, pixels_of(task, i) // 2)
    async for event in draw(task):
        yield event


async def preview_then_hang(task: ImageTask) -> AsyncIterator[TaskEvent]:
    yield Preview(0, 0, pixels_of(task, 0))
    async for event in hang(task):
        yield event


async def preview_then_fail(task: ImageTask) -> AsyncIterator[TaskEvent]:
    yield Preview(0, 0, pixels_of(task, 0))
    raise TaskFailed("mini: failed. See the log.")


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and documents of server-sent events."""
    blocks = [b.split("\n") for b in text.strip().split("\n\n") if not b.startswith(":")]
    return [(n.removeprefix("event: "), json.loads(d.removeprefix("data: "))) for n, d in blocks]


def test_previews_are_followed_by_the_images_and_the_summary(root: Path) -> None:
    async def check(service: Service) -> None:
        response = await service.generate(stream=True, partial_images=2, n=2, seed=5)
        assert response.headers["content-type"].startswith("text/event-stream")
        events = events_of(response.text)
        assert [name for name, _ in events] == ["image_generation.partial_image"] * 4 + [
            "image_generation.completed"
        ] * 2
        assert all(name == document["type"] for name, document in events)
        assert [d["partial_image_index"] for _, d in events[:4]] == [0, 1, 0, 1]
        assert [d["image_index"] for _, d in events] == [0, 0, 1, 1, 0, 1]
        assert "catimage" not in events[-2][1]
        assert events[-1][1]["catimage"]["seed"] == 5
        plain = await service.document(n=2, seed=5)
        assert [d["b64_json"] for _, d in events[4:]] == [i["b64_json"] for i in plain["data"]]

    run(root, check, previews)


def test_an_error_before_the_first_event_is_an_error_response(root: Path) -> None:
    async def check(service: Service) -> None:
        error = await service.error(stream=True, size="9x9")
        assert (error["status"], error["param"]) == (400, "size")

    run(root, check)


def test_an_error_in_the_middle_is_an_event(root: Path) -> None:
    async def check(service: Service) -> None:
        response = await service.generate(stream=True, partial_images=1, model="mini-1")
        events = events_of(response.text)
        assert events[0][0] == "image_generation.partial_image"
        name, document = events[-1]
        assert name == "error" and document["error"]["type"] == "server_error"

    run(root, check, *[preview_then_fail] * 3)


def test_a_comment_keeps_a_silent_stream_alive(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(task: ImageTask) -> AsyncIterator[TaskEvent]:
        await asyncio.sleep(0.3)
        async for event in draw(task):
            yield event

    async def check(service: Service) -> None:
        response = await service.generate(stream=True)
        assert response.text.startswith(": keep-alive\n\n")
        assert [name for name, _ in events_of(response.text)] == ["image_generation.completed"]

    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 0.1)
    run(root, check, slow)


async def leave(service: Service, group: ScriptedGroup, **fields: Any) -> list[str]:
    """Send a request, disconnect when the group works on it, and return the sent messages."""
    body = json.dumps({"prompt": PROMPT, **fields}).encode()
    gone, sent = asyncio.Event(), []
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": GENERATIONS,
        "headers": [(b"content-type", b"application/json")],
        "query_string": b"",
    }
    answered = asyncio.create_task(service.app(scope, receive, send))
    while not group.tasks:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    gone.set()
    await asyncio.wait_for(answered, 2)
    return sent


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_disconnects_cancels_its_work(root: Path, stream: bool) -> None:
    async def main() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts.append(preview_then_hang if stream else hang)
        async with running_app(root, group) as service:
            await leave(service, group, stream=stream, partial_images=1)
            async with asyncio.timeout(2):
                while not group.cancelled:
                    await asyncio.sleep(0.005)
            text = (await service.client.get("/metrics")).text
            assert f'catimage_requests_total{{route="{GENERATIONS}",status="499"}}' in text

    asyncio.run(main())


@pytest.fixture(scope="module")
def preview_server(calibrated_folder: Path) -> Any:
    group = ScriptedGroup("g", *CANDIDATES)
    group.scripts += [previews]
    with serving(calibrated_folder, group) as running:
        yield running


def openai_client(server: Server, key: str = "unused") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def test_openai_client_parses_the_stream(preview_server: Server) -> None:
    with openai_client(preview_server) as client:
        stream = client.images.generate(
            prompt=PROMPT, stream=True, partial_images=1, model="catimage"
        )
        partial, completed = list(stream)
    assert isinstance(partial, ImageGenPartialImageEvent) and partial.partial_image_index == 0
    assert isinstance(completed, ImageGenCompletedEvent)
    assert type(completed).model_validate(completed.model_dump()).usage.output_tokens == 0
    assert Image.open(io.BytesIO(base64.b64decode(completed.b64_json))).size == (8, 8)


def test_openai_client_parses_answers_models_and_errors(server: Server) -> None:
    with openai_client(server) as client:
        answer = client.images.generate(
            prompt=PROMPT,
            n=2,
            quality="low",
            user="u",
            response_format="url",
            extra_body={"seed": 1, "lambda": 0.1, "explain": True},
        )
        assert type(answer).model_validate(answer.model_dump()) == answer
        assert answer.usage and answer.model_extra and answer.data
        assert answer.model_extra["catimage"]["seed"] == 1
        assert httpx.get(str(answer.data[1].url)).headers["content-type"] == "image/png"
        assert client.models.retrieve("catimage").id in [m.id for m in client.models.list()]
        with pytest.raises(openai.NotFoundError, match="did you mean"):
            client.images.generate(prompt=PROMPT, model="mini-3")
        with pytest.raises(openai.BadRequestError) as raised:
            client.images.generate(prompt=PROMPT, background="transparent")
    assert (raised.value.param, raised.value.code) == ("background", "invalid_value")


def test_images_are_sent_before_the_others_are_finished(calibrated_folder: Path) -> None:
    received = threading.Event()

    async def gated(task: ImageTask) -> AsyncIterator[TaskEvent]:
        events = [event async for event in draw(task)]
        for event in events[:2]:
            yield event
        assert await asyncio.to_thread(received.wait, 10)
        for event in events[2:]:
            yield event

    group = ScriptedGroup("g", *CANDIDATES)
    group.scripts.append(gated)
    body = {"prompt": PROMPT, "stream": True, "n": 3}
    with (
        serving(calibrated_folder, group) as running,
        httpx.stream("POST", f"{running.url}{GENERATIONS}", json=body) as response,
    ):
        lines = response.iter_lines()
        assert next(lines) == "event: image_generation.completed"
        first = json.loads(next(lines).removeprefix("data: "))
        assert first["image_index"] == 0 and "usage" in first and "catimage" not in first
        received.set()
        assert sum(line.startswith("event:") for line in lines) == 2

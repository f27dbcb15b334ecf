"""The kind ``hosted``, tested with a local HTTP server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from catimage.commands.costs import cost_rows
from catimage.data.schema import CANDIDATES, read_table
from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import read_shard
from catimage.errors import InputError
from catimage.pool.costs import all_costs, candidates_without_cost
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate, Pool
from catimage.stages import generate
from tests.miniature import pool_tree, workspace_of
from tests.pool.generators.hosted.server import (
    error_response,
    image_response,
    png_bytes,
    run_server,
    uniform_image,
    uniform_image_response,
)

KEY = "CATIMAGE_TEST_KEY"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")


def hosted_tree(url: str, **settings: Any) -> dict[str, Any]:
    """Return the content of a pool file with one hosted generator and two candidates."""
    generator = {
        "kind": "hosted",
        "base_url": f"{url}/v1",
        "model": "painter",
        "key_variable": KEY,
        "size": 64,
        "retries": 2,
        "timeout": 5,
        **settings,
    }
    candidates = [
        {
            "candidate": "painter-low",
            "generator": "painter",
            "quality": "low",
            "cost": 0.01,
            "unit": "usd",
        },
        {
            "candidate": "painter-high",
            "generator": "painter",
            "quality": "high",
            "cost": 0.04,
            "unit": "usd",
        },
    ]
    return {"name": "mixed", "generators": {"painter": generator}, "candidates": candidates}


def save_pool(folder: Path, tree: dict[str, Any]) -> Pool:
    """Write a pool file, and return the pool that is read from it."""
    path = folder / "mixed.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_pool(str(path))


def generate_images(
    folder: Path,
    url: str,
    prompts: list[str],
    seeds: list[int],
    candidate: str = "painter-low",
    **settings: Any,
) -> np.ndarray:
    """Generate images with the hosted generator of the server at ``url``."""
    pool = save_pool(folder, hosted_tree(url, **settings))
    generator = kind_of(pool.generators["painter"], pool.folder).load(DeviceMemory())
    return generator.generate(prompts, pool.candidate(candidate), seeds, generator.encode(prompts))


def test_images_are_in_the_order_of_the_prompts(tmp_path: Path):
    prompts = [f"{n} rings" for n in range(9)]
    with run_server(lambda _, body: uniform_image_response(body)) as server:
        images = generate_images(
            tmp_path,
            server.url,
            prompts,
            list(range(9)),
            "painter-high",
            options={"background": "opaque"},
        )
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, [uniform_image(p) for p in prompts])
    assert set(server.paths) == {"/v1/images/generations"} and set(server.authorizations) == {
        "Bearer secret"
    }
    expected = {
        "model": "painter",
        "n": 1,
        "size": "64x64",
        "quality": "high",
        "background": "opaque",
    }
    assert sorted(server.bodies, key=lambda body: body["prompt"]) == [
        {**expected, "prompt": p} for p in prompts
    ]


def test_the_seed_is_sent_if_the_server_accepts_one(tmp_path: Path):
    with run_server(lambda _, body: uniform_image_response(body)) as server:
        generate_images(tmp_path, server.url, ["a"], [7], seeded=True, response_format="b64_json")
        generate_images(tmp_path, server.url, ["a"], [7])
    assert [body.get("seed") for body in server.bodies] == [7, None]
    assert [body.get("response_format") for body in server.bodies] == ["b64_json", None]


def test_an_image_at_a_url_is_downloaded_without_the_key(tmp_path: Path):
    with run_server(lambda _, __: image_response(url=f"{server.url}/a.png")) as server:
        server.files["/a.png"] = png_bytes(uniform_image("a"))
        np.testing.assert_array_equal(
            generate_images(tmp_path, server.url, ["a"], [0])[0], uniform_image("a")
        )
        assert server.authorizations == ["Bearer secret", None]
        server.files.clear()
        with pytest.raises(
            InputError,
            match=(
                r"cannot download the image of the request of 'painter-low' for the prompt 'a'"
                r" .*status 404"
            ),
        ):
            generate_images(tmp_path, server.url, ["a"], [0])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_requests_to_a_busy_server_are_retried(tmp_path: Path, status: int):
    with run_server(
        lambda n, body: (
            error_response(status, "busy", retry_after="0.01")
            if n < 2
            else uniform_image_response(body)
        )
    ) as server:
        np.testing.assert_array_equal(
            generate_images(tmp_path, server.url, ["a"], [0])[0], uniform_image("a")
        )
    assert len(server.bodies) == 3


def test_retries_wait_for_the_time_in_the_header_retry_after(tmp_path: Path):
    with run_server(
        lambda n, body: (
            uniform_image_response(body)
            if n
            else error_response(429, "slow down", retry_after="0.9")
        )
    ) as server:
        generate_images(tmp_path, server.url, ["a"], [0])
    assert (
        server.times[1] - server.times[0] >= 0.9
    )  # the client waits at most half a second without the header


def test_a_server_that_stays_busy_is_reported(tmp_path: Path):
    with (
        run_server(
            lambda *_: error_response(429, "Rate limit reached.", retry_after="0.01")
        ) as server,
        pytest.raises(
            InputError,
            match=(
                r"failed at the request of 'painter-low' .* in 3 attempts: Rate limit reached"
                r" \(status 429\)"
            ),
        ),
    ):
        generate_images(tmp_path, server.url, ["a"], [0])
    assert len(server.bodies) == 3


def test_requests_and_retries_observe_the_rate_limit(tmp_path: Path):
    with run_server(
        lambda n, body: (
            uniform_image_response(body) if n else error_response(500, "oops", retry_after="0.01")
        )
    ) as server:
        generate_images(tmp_path, server.url, ["a", "b", "c"], [0, 0, 0], requests_a_minute=600)
    assert len(server.times) == 4
    assert min(np.diff(server.times)) > 0.05 and server.times[-1] - server.times[0] >= 0.25


def test_concurrency_limits_simultaneous_requests(tmp_path: Path):
    running, max_running = 0, 0

    def respond(_: int, body: dict[str, Any]) -> Any:
        nonlocal running, max_running
        with server.lock:
            running += 1
            max_running = max(max_running, running)
        time.sleep(0.05)
        with server.lock:
            running -= 1
        return uniform_image_response(body)

    with run_server(respond) as server:
        generate_images(tmp_path, server.url, ["a"] * 8, [0] * 8, concurrency=3)
    assert max_running == 3


def test_a_server_that_does_not_respond_is_reported(tmp_path: Path):
    def respond_slowly(_: int, body: dict[str, Any]) -> Any:
        time.sleep(0.4)
        return uniform_image_response(body)

    with (
        run_server(respond_slowly) as server,
        pytest.raises(
            InputError,
            match=r"did not respond to the request of 'painter-low' .* in 1 attempts of 0\.1 s",
        ),
    ):
        generate_images(tmp_path, server.url, ["a"], [0], timeout=0.1, retries=0)


def test_an_unavailable_server_is_reported(tmp_path: Path):
    with pytest.raises(
        InputError,
        match=(
            r"cannot send the request of 'painter-low' .*: http://127\.0\.0\.1:9/v1 is unavailable"
            r" \(.*refused.*\)"
        ),
    ):
        generate_images(tmp_path, "http://127.0.0.1:9", ["a"], [0], retries=0)


REJECTIONS = {
    401: (
        r"key_variable: .* rejects the key in CATIMAGE_TEST_KEY: Your request was\s*rejected"
        r" \(status 401\)"
    ),
    400: (
        r"rejects the request of 'painter-low' for the prompt 'a bad one': Your request was"
        r" rejected \(status 400\)\. Correct the"
    ),
    404: r"rejects the request of 'painter-low' .* \(status 404\)",
}
"""Messages by status code. The status of a violation of the content policy is 400."""


@pytest.mark.parametrize(("status", "message"), REJECTIONS.items())
def test_a_rejected_request_is_reported_immediately(tmp_path: Path, status: int, message: str):
    with (
        run_server(lambda *_: error_response(status, "Your request was\nrejected.")) as server,
        pytest.raises(InputError, match=message) as caught,
    ):
        generate_images(tmp_path, server.url, ["a bad one"] * 20, [0] * 20, concurrency=1)
    assert len(server.bodies) <= 2, "requests that have not started must be cancelled"
    assert "\n" not in str(caught.value) and str(caught.value).startswith(
        f"{tmp_path / 'mixed.yaml'}: generators.painter."
    )


INVALID_RESPONSES: dict[str, tuple[Any, str]] = {
    "invalid base64": (image_response(b64_json="no, no"), "is not base64"),
    "no image": (image_response(b64_json="aGVsbG8="), "is not a readable image"),
    "truncated image": (
        image_response(b64_json="iVBORw0KGgoAAAANSUhEUgAAAEAAAABA"),
        "is not a readable image",
    ),
    "no fields in the entry": (image_response(), "has no image"),
    "no entry": ((200, {}, b'{"data": []}'), "has no image"),
    "another size": (
        uniform_image_response({"prompt": "a"}, 32),
        r"\.size: .* an image of 32x32 pixels, not 64x64, for the request of 'painter-low'",
    ),
}


@pytest.mark.parametrize(("response", "message"), INVALID_RESPONSES.values(), ids=INVALID_RESPONSES)
def test_invalid_responses_are_reported(tmp_path: Path, response: Any, message: str):
    with run_server(lambda *_: response) as server, pytest.raises(InputError, match=message):
        generate_images(tmp_path, server.url, ["a"], [0])


def _remove(key: str) -> Callable[[dict[str, Any]], None]:
    """Return a function that removes a key of the second candidate."""
    return lambda tree: tree["candidates"][1].pop(key)


INVALID_ENTRIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no price": (
        _remove("cost"),
        (r"the hosted candidate 'painter-high' has no price\. Add 'cost', in USD per image"),
    ),
    "a cost in TFLOPs": (
        _remove("unit"),
        r"the hosted candidate 'painter-high' has no price",
    ),
    "steps": (
        lambda tree: tree["candidates"][0].update(steps=4),
        r"the hosted candidate 'painter-low' has 'steps', which its server does not support",
    ),
    "an API key in the pool file": (
        lambda tree: tree["generators"]["painter"].update(key_variable="sk-12"),
        r"generators\.painter\.key_variable",
    ),
    "equal candidates": (
        lambda tree: tree["candidates"][1].update(quality="low"),
        r"'painter-high' is the same as 'painter-low'",
    ),
    "invalid URL": (
        lambda tree: tree["generators"]["painter"].update(base_url="api"),
        r"generators\.painter\.base_url",
    ),
}


@pytest.mark.parametrize(("change", "message"), INVALID_ENTRIES.values(), ids=INVALID_ENTRIES)
def test_invalid_entries_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
):
    tree = hosted_tree("http://127.0.0.1")
    change(tree)
    with pytest.raises(InputError, match=message):
        save_pool(tmp_path, tree)


def test_the_definition_contains_only_the_settings_that_affect_images(tmp_path: Path):
    def definition(**settings: Any) -> dict[str, Any]:
        spec = save_pool(tmp_path, hosted_tree("http://127.0.0.1", **settings)).generators[
            "painter"
        ]
        return spec.definition(
            Candidate(candidate="x", generator="painter", cost=1, unit="usd"),
            kind_of(spec, tmp_path).identity(),
        )

    plain = definition()
    assert plain == {
        "kind": "hosted",
        "model": "painter",
        "size": 64,
        "server": "http://127.0.0.1/v1",
    }
    assert (
        definition(timeout=9, retries=9, requests_a_minute=9, concurrency=9, key_variable=None)
        == plain
    )
    for other in (
        {"model": "x"},
        {"version": "2026-11"},
        {"quality": "low"},
        {"options": {"style": "vivid"}},
        {"size": 72},
        {"seeded": True},
    ):
        assert definition(**other) != plain


def test_a_missing_api_key_is_reported_before_generation(
    tmp_path: Path, miniature_pool: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(KEY)
    path = mixed_pool(tmp_path, miniature_pool, "http://127.0.0.1:9").file
    workspace, params = workspace_of(tmp_path / "work", miniature_pool, ["a ring"])
    params = params.model_copy(update={"pool": str(path), "cost_unit": "usd"})
    with pytest.raises(
        InputError,
        match=r"painter\.key_variable: the environment variable CATIMAGE_TEST_KEY is not set",
    ):
        generate.run(workspace, params)
    assert not list(workspace.images.glob("*.parquet"))
    facts = kind_of(load_pool(str(path)).generators["painter"], tmp_path).facts()
    assert "is not set" in facts.missing and facts.revision == "painter"


def mixed_pool(
    folder: Path, miniature_pool: Path, url: str, usd_per_tflop: float | None = 0.5
) -> Pool:
    """Return a pool with two local candidates and a hosted one."""
    local, hosted = pool_tree(str(miniature_pool.parent / "sd"), (1, 2)), hosted_tree(url)
    tree: Any = {**local, "generators": local["generators"] | hosted["generators"]}  # type: ignore[operator]
    tree["candidates"] = [*tree["candidates"], hosted["candidates"][0]]
    return save_pool(folder, tree | ({"usd_per_tflop": usd_per_tflop} if usd_per_tflop else {}))


def test_all_candidates_of_a_mixed_pool_have_a_price(tmp_path: Path, miniature_pool: Path):
    pool = mixed_pool(tmp_path, miniature_pool, "http://127.0.0.1")
    costs = all_costs(pool).set_index(["candidate", "unit"])["cost"]
    assert len(costs) == 5 and costs["painter-low", "usd"] == 0.01
    for name in ("mini-1", "mini-2"):
        assert costs[name, "usd"] == pytest.approx(0.5 * costs[name, "tflops"])
    assert candidates_without_cost(pool, "usd") == []
    assert candidates_without_cost(pool, "tflops") == ["painter-low"]
    rows = cost_rows(str(pool.file), None)
    assert [(r["candidate"], r["unit"]) for r in rows] == list(costs.index)
    assert rows[2]["denoiser"] is None
    unpriced = mixed_pool(tmp_path, miniature_pool, "http://127.0.0.1", usd_per_tflop=None)
    assert candidates_without_cost(unpriced, "usd") == ["mini-1", "mini-2"]


def test_stage_generate_with_a_mixed_pool(tmp_path: Path, miniature_pool: Path):
    prompts = ["a ring", "two rings"]
    with run_server(lambda _, body: uniform_image_response(body)) as server:
        pool = mixed_pool(tmp_path, miniature_pool, server.url)
        workspace, params = workspace_of(tmp_path / "work", miniature_pool, prompts)
        params = params.model_copy(update={"pool": str(pool.file), "cost_unit": "usd"})
        generate.run(workspace, params)
        generate.run(workspace, params)  # all images are finished, so this run sends no requests
    assert len(server.bodies) == 4, "every image must be requested once"
    rows = [
        row
        for entry in read_manifest(workspace.images)
        for row in read_shard(workspace.images, entry.shard)[0].to_pylist()
    ]
    assert len(rows) == 12
    assert [(row["candidate"], row["seed"]) for row in rows].count(("painter-low", 1)) == 2
    table = read_table(workspace.candidates, CANDIDATES, "generate")
    assert sorted(table.loc[table["unit"] == "usd", "candidate"]) == [
        "mini-1",
        "mini-2",
        "painter-low",
    ]

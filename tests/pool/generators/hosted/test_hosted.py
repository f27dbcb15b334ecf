"""The hosted kind against a real HTTP server on this machine."""

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
from tests.pool.generators.hosted.server import answered, drawn, picture, png, refused, serving

KEY = "CATIMAGE_TEST_KEY"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")


def hosted_tree(url: str, **settings: Any) -> dict[str, Any]:
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


def pool_of(folder: Path, tree: dict[str, Any]) -> Pool:
    path = folder / "mixed.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_pool(str(path))


def made(
    folder: Path,
    url: str,
    prompts: list[str],
    seeds: list[int],
    candidate: str = "painter-low",
    **settings: Any,
) -> np.ndarray:
    pool = pool_of(folder, hosted_tree(url, **settings))
    generator = kind_of(pool.generators["painter"], pool.folder).load(DeviceMemory())
    return generator.generate(prompts, pool.candidate(candidate), seeds, generator.encode(prompts))


def test_images_come_in_the_order_that_was_asked_for(tmp_path: Path):
    prompts = [f"{n} rings" for n in range(9)]
    with serving(lambda _, asked: drawn(asked)) as server:
        images = made(
            tmp_path,
            server.url,
            prompts,
            list(range(9)),
            "painter-high",
            options={"background": "opaque"},
        )
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, [picture(p) for p in prompts])
    assert set(server.paths) == {"/v1/images/generations"} and set(server.keys) == {"Bearer secret"}
    asked = {"model": "painter", "n": 1, "size": "64x64", "quality": "high", "background": "opaque"}
    assert sorted(server.asked, key=lambda a: a["prompt"]) == [
        {**asked, "prompt": p} for p in prompts
    ]


def test_the_seed_goes_along_where_the_server_takes_one(tmp_path: Path):
    with serving(lambda _, asked: drawn(asked)) as server:
        made(tmp_path, server.url, ["a"], [7], seeded=True, response_format="b64_json")
        made(tmp_path, server.url, ["a"], [7])
    assert [a.get("seed") for a in server.asked] == [7, None]
    assert [a.get("response_format") for a in server.asked] == ["b64_json", None]


def test_an_image_behind_a_url_is_fetched_without_the_key(tmp_path: Path):
    with serving(lambda _, __: answered(url=f"{server.url}/a.png")) as server:
        server.files["/a.png"] = png(picture("a"))
        np.testing.assert_array_equal(made(tmp_path, server.url, ["a"], [0])[0], picture("a"))
        assert server.keys == ["Bearer secret", None]
        server.files.clear()
        with pytest.raises(
            InputError,
            match=(
                r"cannot fetch the image of the candidate 'painter-low' for the prompt 'a'"
                r" .*status 404"
            ),
        ):
            made(tmp_path, server.url, ["a"], [0])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_servers_are_asked_again(tmp_path: Path, status: int):
    with serving(
        lambda n, asked: refused(status, "busy", retry_after="0.01") if n < 2 else drawn(asked)
    ) as server:
        np.testing.assert_array_equal(made(tmp_path, server.url, ["a"], [0])[0], picture("a"))
    assert len(server.asked) == 3


def test_what_retry_after_says_is_waited(tmp_path: Path):
    with serving(
        lambda n, asked: drawn(asked) if n else refused(429, "slow down", retry_after="0.9")
    ) as server:
        made(tmp_path, server.url, ["a"], [0])
    assert server.times[1] - server.times[0] >= 0.9  # without it, half a second at most


def test_a_server_that_stays_busy_is_given_up(tmp_path: Path):
    with (
        serving(lambda *_: refused(429, "Rate limit reached.", retry_after="0.01")) as server,
        pytest.raises(
            InputError,
            match=(
                r"failed the candidate 'painter-low' .* 3 times: Rate limit reached \(status 429\)"
            ),
        ),
    ):
        made(tmp_path, server.url, ["a"], [0])
    assert len(server.asked) == 3


def test_requests_keep_the_rate_limit_retries_too(tmp_path: Path):
    with serving(
        lambda n, asked: drawn(asked) if n else refused(500, "oops", retry_after="0.01")
    ) as server:
        made(tmp_path, server.url, ["a", "b", "c"], [0, 0, 0], requests_a_minute=600)
    assert len(server.times) == 4
    assert min(np.diff(server.times)) > 0.05 and server.times[-1] - server.times[0] >= 0.25


def test_no_more_requests_at_once_than_the_account_allows(tmp_path: Path):
    running, most = 0, 0

    def answer(_: int, asked: dict[str, Any]) -> Any:
        nonlocal running, most
        with server.lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with server.lock:
            running -= 1
        return drawn(asked)

    with serving(answer) as server:
        made(tmp_path, server.url, ["a"] * 8, [0] * 8, concurrency=3)
    assert most == 3


def test_a_server_that_hangs_is_given_up(tmp_path: Path):
    def hang(_: int, asked: dict[str, Any]) -> Any:
        time.sleep(0.4)
        return drawn(asked)

    with (
        serving(hang) as server,
        pytest.raises(
            InputError, match=r"did not answer the candidate 'painter-low' .* in 1 tries of 0\.1 s"
        ),
    ):
        made(tmp_path, server.url, ["a"], [0], timeout=0.1, retries=0)


def test_no_server_at_all(tmp_path: Path):
    with pytest.raises(
        InputError,
        match=(
            r"http://127\.0\.0\.1:9/v1 is not to be had \(.*refused.*\) for the candidate"
            r" 'painter-low'"
        ),
    ):
        made(tmp_path, "http://127.0.0.1:9", ["a"], [0], retries=0)


REFUSALS = {
    401: (
        r"key_variable: .* refuses the key in CATIMAGE_TEST_KEY: Your request was\s*rejected"
        r" \(status 401\)"
    ),
    400: (
        r"refuses the candidate 'painter-low' for the prompt 'a bad one': Your request was rejected"
        r" \(status 400\); mend the"
    ),
    404: r"refuses the candidate 'painter-low' .* \(status 404\)",
}
"""A content policy comes as a 400."""


@pytest.mark.parametrize(("status", "message"), REFUSALS.items())
def test_what_the_server_refuses_is_said_at_once(tmp_path: Path, status: int, message: str):
    with (
        serving(lambda *_: refused(status, "Your request was\nrejected.")) as server,
        pytest.raises(InputError, match=message) as caught,
    ):
        made(tmp_path, server.url, ["a bad one"] * 20, [0] * 20, concurrency=1)
    assert len(server.asked) <= 2, "what was not sent yet is not sent"
    assert "\n" not in str(caught.value) and str(caught.value).startswith(
        f"{tmp_path / 'mixed.yaml'}: generators.painter."
    )


BROKEN: dict[str, tuple[Any, str]] = {
    "no base64": (answered(b64_json="no, no"), "is not base64"),
    "no image": (answered(b64_json="aGVsbG8="), "is no readable image"),
    "half an image": (
        answered(b64_json="iVBORw0KGgoAAAANSUhEUgAAAEAAAABA"),
        "is no readable image",
    ),
    "nothing": (answered(), "holds no image"),
    "no data": ((200, {}, b'{"data": []}'), "holds no image"),
    "another size": (
        drawn({"prompt": "a"}, 32),
        r"\.size: .* made an image of 32x32 pixels, not 64x64, as the candidate 'painter-low'",
    ),
}


@pytest.mark.parametrize(("answer", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_answers_are_said(tmp_path: Path, answer: Any, message: str):
    with serving(lambda *_: answer) as server, pytest.raises(InputError, match=message):
        made(tmp_path, server.url, ["a"], [0])


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda tree: tree["candidates"][1].pop(key)


BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no price": (
        _without("cost"),
        (
            r"the candidate 'painter-high' is hosted and has no price; add 'cost' with its USD an"
            r" image"
        ),
    ),
    "a price in TFLOPs": (
        _without("unit"),
        r"the candidate 'painter-high' is hosted and has no price",
    ),
    "steps": (
        lambda t: t["candidates"][0].update(steps=4),
        r"the candidate 'painter-low' is hosted, and its server counts no steps",
    ),
    "a key in the file": (
        lambda t: t["generators"]["painter"].update(key_variable="sk-12"),
        r"generators\.painter\.key_variable",
    ),
    "twice the same": (
        lambda t: t["candidates"][1].update(quality="low"),
        r"'painter-high' is the same as 'painter-low'",
    ),
    "no server": (
        lambda t: t["generators"]["painter"].update(base_url="api"),
        r"generators\.painter\.base_url",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_bad_entries_are_refused(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str
):
    tree = hosted_tree("http://127.0.0.1")
    spoil(tree)
    with pytest.raises(InputError, match=message):
        pool_of(tmp_path, tree)


def test_what_identifies_the_images(tmp_path: Path):
    def definition(**settings: Any) -> dict[str, Any]:
        spec = pool_of(tmp_path, hosted_tree("http://127.0.0.1", **settings)).generators["painter"]
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


def test_a_missing_key_is_said_before_any_work(
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
    """Two local candidates and a hosted one."""
    local, hosted = pool_tree(str(miniature_pool.parent / "sd"), (1, 2)), hosted_tree(url)
    tree: Any = {**local, "generators": local["generators"] | hosted["generators"]}  # type: ignore[operator]
    tree["candidates"] = [*tree["candidates"], hosted["candidates"][0]]
    return pool_of(folder, tree | ({"usd_per_tflop": usd_per_tflop} if usd_per_tflop else {}))


def test_a_mixed_pool_is_priced_in_usd(tmp_path: Path, miniature_pool: Path):
    pool = mixed_pool(tmp_path, miniature_pool, "http://127.0.0.1")
    costs = all_costs(pool).set_index(["candidate", "unit"])["cost"]
    assert len(costs) == 5 and costs["painter-low", "usd"] == 0.01
    for name in ("mini-1", "mini-2"):
        assert costs[name, "usd"] == pytest.approx(0.5 * costs[name, "tflops"])
    assert (candidates_without_cost(pool, "usd"), candidates_without_cost(pool, "tflops")) == (
        [],
        ["painter-low"],
    )
    rows = cost_rows(str(pool.file), None)
    assert [(r["candidate"], r["unit"]) for r in rows] == list(costs.index)
    assert rows[2]["denoiser"] is None
    assert candidates_without_cost(
        mixed_pool(tmp_path, miniature_pool, "http://127.0.0.1", None), "usd"
    ) == [
        "mini-1",
        "mini-2",
    ]


def test_the_whole_stage_over_a_mixed_pool(tmp_path: Path, miniature_pool: Path):
    prompts = ["a ring", "two rings"]
    with serving(lambda _, asked: drawn(asked)) as server:
        pool = mixed_pool(tmp_path, miniature_pool, server.url)
        workspace, params = workspace_of(tmp_path / "work", miniature_pool, prompts)
        params = params.model_copy(update={"pool": str(pool.file), "cost_unit": "usd"})
        generate.run(workspace, params)
        generate.run(workspace, params)  # takes what is there
    assert len(server.asked) == 4, "every image was paid for once"
    rows = [
        r
        for e in read_manifest(workspace.images)
        for r in read_shard(workspace.images, e.shard)[0].to_pylist()
    ]
    assert [(r["candidate"], r["seed"]) for r in rows].count(("painter-low", 1)) == 2 and len(
        rows
    ) == 12
    table = read_table(workspace.candidates, CANDIDATES, "generate")
    assert sorted(table.loc[table["unit"] == "usd", "candidate"]) == [
        "mini-1",
        "mini-2",
        "painter-low",
    ]

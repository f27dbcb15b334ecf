"""Refused prompts of hosted models, and images that are paid for."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from catimage.data.dataset import Dataset
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import PROMPTS, SCORES, read_table, write_table
from catimage.data.shards.manifest import read_manifest, refused_images
from catimage.data.shards.store import decode_image, read_shard
from catimage.errors import InputError
from catimage.params import Params, parse_params
from catimage.stages import calibrate, evaluate, generate, label, sample, train, validate
from catimage.workspace import Workspace
from tests import forked
from tests.miniature import workspace_of
from tests.pool.generators.hosted.server import (
    Response,
    Server,
    error_response,
    image_response,
    png_bytes,
    run_server,
)
from tests.pool.generators.hosted.test_hosted import hosted_tree

TEXTS = [f"{n} rings" for n in ("no", "two", "three", "four", "five", "six", "seven", "eight")]
REFUSED = "four rings"


def random_image(body: dict[str, Any]) -> Response:
    """Return an image of random pixels, which depends on the prompt and the quality."""
    text = f"{body['prompt']} {body.get('quality')}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 255, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    noise = rng.integers(0, 255, (64, 64, 3), np.uint8)
    share = rng.random() * (1.0 if body.get("quality") == "high" else 0.5)
    pixels = (low * (1 - share) + noise * share).astype(np.uint8)
    return image_response(b64_json=base64.b64encode(png_bytes(pixels)).decode())


def refuse(number: int, body: dict[str, Any]) -> Response:
    """Refuse one of the prompts."""
    if body["prompt"] == REFUSED:
        return error_response(400, "Your request was rejected by the safety system.")
    return random_image(body)


def make_workspace(
    folder: Path, url: str, miniature_pool: Path, generation: Any = None, **settings: Any
) -> tuple[Workspace, Params]:
    """Create a workspace with eight prompts and a pool of two hosted candidates."""
    settings = {"key_variable": None, "concurrency": 2, "retries": 0} | settings
    file = folder / "hosted.yaml"
    file.write_text(yaml.safe_dump(hosted_tree(url, **settings)))
    workspace, params = workspace_of(folder / "work", miniature_pool, TEXTS)
    generate_section = {"seeds": [0], "shard_images": 4, **(generation or {})}
    update = {"pool": str(file), "cost_unit": "usd"}
    tree = params.model_dump(by_alias=True, exclude={"imported"})
    return workspace, parse_params({**tree, **update, "generate": generate_section}, "params.yaml")


def images_of(workspace: Workspace) -> dict[tuple[str, str], bytes]:
    """Return the images in the shards of the manifest by prompt id and candidate."""
    rows = [
        row
        for entry in read_manifest(workspace.images)
        for row in read_shard(workspace.images, entry.shard)[0].to_pylist()
    ]
    return {(row["prompt_id"], row["candidate"]): row["image"] for row in rows}


def requests_of(server: Server) -> Counter[tuple[str, str]]:
    return Counter((body["prompt"], body["quality"]) for body in server.bodies)


def test_a_refused_prompt_stops_the_stage_and_no_paid_image_is_requested_again(
    tmp_path: Path, miniature_pool: Path
):
    with run_server(refuse) as server:
        workspace, params = make_workspace(tmp_path, server.url, miniature_pool)
        for _ in range(2):
            with pytest.raises(
                InputError,
                match=r"rejects the request of 'painter-low' for the prompt 'four rings': Your .*"
                r"\(status 400\)\. Correct the candidate, remove the prompt, or set"
                r" generate\.on_refusal to skip\.",
            ):
                generate.run(workspace, params)
        paid = requests_of(server)
        assert paid.pop((REFUSED, "low")) == 2 and set(paid.values()) == {1}
        prompts = read_table(workspace.prompts, PROMPTS, "sample")
        prompts = prompts[prompts["prompt"] != REFUSED].reset_index(drop=True)
        write_table(prompts, workspace.prompts, PROMPTS)
        generate.run(workspace, params)
        del (requests := requests_of(server))[REFUSED, "low"]
        assert len(requests) == 14 and set(requests.values()) == {1}, "an image was paid twice"
    assert len(images_of(workspace)) == 14
    listed = {f"{entry.shard}.parquet" for entry in read_manifest(workspace.images)}
    assert {path.name for path in workspace.images.glob("*.parquet")} == listed


def test_refused_prompts_are_skipped_recorded_and_counted(
    tmp_path: Path, miniature_pool: Path, capsys: pytest.CaptureFixture[str]
):
    with run_server(refuse) as server:
        workspace, params = make_workspace(
            tmp_path, server.url, miniature_pool, {"on_refusal": "skip"}
        )
        generate.run(workspace, params)
        output = capsys.readouterr().out
        assert output.count("generate: no image: http://") == 2
        assert (
            "generate: 2 of 16 images were refused (painter-low 1, painter-high 1). They have no"
            in output
        )
        first = images_of(workspace)
        generate.run(workspace, params)
        assert set(requests_of(server).values()) == {1}, "a second run requests nothing"
    assert images_of(workspace) == first and len(first) == 14
    refused = refused_images(workspace.images, read_manifest(workspace.images))
    assert list(refused["prompt_id"]) == [prompt_id(REFUSED)] * 2
    assert set(refused["candidate"]) == {"painter-low", "painter-high"}
    assert all("rejected by the safety system (status 400)" in text for text in refused["reason"])
    manifest = (workspace.images / "manifest.json").read_text()
    assert manifest.count('"refused": 1') == 2 and manifest.count('"refused"') == 2


def test_refused_prompts_are_requested_again_if_they_are_no_longer_skipped(
    tmp_path: Path, miniature_pool: Path
):
    with run_server(refuse) as server:
        workspace, params = make_workspace(
            tmp_path, server.url, miniature_pool, {"on_refusal": "skip"}
        )
        generate.run(workspace, params)
        _, strict = make_workspace(tmp_path, server.url, miniature_pool)
        with pytest.raises(InputError, match="rejects the request"):
            generate.run(workspace, strict)
        server.respond = lambda _, body: random_image(body)
        generate.run(workspace, strict)
        requests = requests_of(server)
    assert len(images_of(workspace)) == 16
    assert sum(requests.values()) <= 16 + 3, "only refused images are requested again"
    assert {key for key, count in requests.items() if count > 1} <= {
        (REFUSED, "low"),
        (REFUSED, "high"),
    }


@pytest.mark.parametrize("answer", ["empty", "forbidden", "unprocessable"])
def test_other_forms_of_refusals_are_skipped(answer: str, tmp_path: Path, miniature_pool: Path):
    responses = {
        "empty": (200, {}, b'{"created": 0, "data": []}'),
        "forbidden": error_response(403, "Content moderation."),
        "unprocessable": error_response(422, "Flagged."),
    }

    def respond(_: int, body: dict[str, Any]) -> Response:
        return responses[answer] if body["prompt"] == REFUSED else random_image(body)

    with run_server(respond) as server:
        workspace, params = make_workspace(
            tmp_path, server.url, miniature_pool, {"on_refusal": "skip"}
        )
        generate.run(workspace, params)
    assert len(images_of(workspace)) == 14


def test_other_errors_stop_the_stage_and_paid_images_are_kept(tmp_path: Path, miniature_pool: Path):
    def fail_later(number: int, body: dict[str, Any]) -> Response:
        return random_image(body) if number < 6 else error_response(500, "oops")

    with run_server(fail_later) as server:
        workspace, params = make_workspace(
            tmp_path, server.url, miniature_pool, {"on_refusal": "skip"}
        )
        with pytest.raises(InputError, match=r"failed at the request .* \(status 500\)"):
            generate.run(workspace, params)
        requested = len(server.bodies)
        server.respond = lambda _, body: random_image(body)
        generate.run(workspace, params)
        assert len(server.bodies) == requested + 16 - 6
    assert len(images_of(workspace)) == 16


def test_settings_that_the_server_rejects_for_every_prompt_are_an_error(
    tmp_path: Path, miniature_pool: Path
):
    with run_server(lambda *_: error_response(400, "Unknown size.")) as server:
        workspace, params = make_workspace(
            tmp_path, server.url, miniature_pool, {"on_refusal": "skip"}
        )
        with pytest.raises(
            InputError, match=r"all 8 images of the candidate 'painter-low' were refused\. Correct"
        ):
            generate.run(workspace, params)
    assert not (workspace.images / "manifest.json").exists()


def test_a_killed_run_loses_only_images_of_running_requests(tmp_path: Path, miniature_pool: Path):
    def respond_slowly(number: int, body: dict[str, Any]) -> Response:
        if number >= 5:
            time.sleep(60 if server.respond is respond_slowly else 0)
        return random_image(body)

    with run_server(lambda n, body: respond_slowly(n, body)) as server:
        server.respond = respond_slowly
        workspace, params = make_workspace(
            tmp_path, server.url, miniature_pool, {"shard_images": 512}
        )
        child = forked.start(lambda: generate.run(workspace, params))
        deadline = time.monotonic() + 120
        while len(list(workspace.images.glob("image-*.parquet"))) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        assert forked.exit_status(child) == -signal.SIGKILL
        server.respond = lambda _, body: random_image(body)
        generate.run(workspace, params)
        assert len(server.bodies) <= 16 + 2, "at most two requests were running"
    assert len(images_of(workspace)) == 16


def test_fields_that_an_api_does_not_accept_are_left_out(tmp_path: Path, miniature_pool: Path):
    def respond(_: int, body: dict[str, Any]) -> Response:
        unknown = [name for name in ("size", "n", "model") if name in body]
        return (
            error_response(400, f"Unknown field {unknown[0]}.") if unknown else random_image(body)
        )

    with run_server(respond) as server:
        workspace, params = make_workspace(
            tmp_path, server.url, miniature_pool, omit=["size", "n", "model"]
        )
        generate.run(workspace, params)
        assert {name for body in server.bodies for name in body} == {"prompt", "quality"}
        with pytest.raises(
            InputError,
            match=r"'generators\.painter\.size': .*give the size of the model's images, and add"
            r" 'omit: \[size\]'",
        ):
            generate.run(*make_workspace(tmp_path, server.url, miniature_pool, size=None))
    assert len(images_of(workspace)) == 16


@pytest.mark.parametrize("refused_quality", ["any", "high"])
def test_all_stages_run_without_the_images_of_refused_prompts(
    refused_quality: str,
    tmp_path: Path,
    miniature_pool: Path,
    capsys: pytest.CaptureFixture[str],
):
    def respond(_: int, body: dict[str, Any]) -> Response:
        is_refused = sum(body["prompt"].encode()) % 10 == 0
        if is_refused and refused_quality in ("any", body["quality"]):
            return error_response(400, "no")
        return random_image(body)

    with run_server(respond) as server:
        workspace, params = make_workspace(
            tmp_path, server.url, miniature_pool, {"on_refusal": "skip", "shard_images": 512}
        )
        tree = params.model_dump(by_alias=True, exclude={"imported"}, mode="json")
        tree["sample"] = {"sources": [{"kind": "scenes", "count": 160}], "max_similarity": 1.0}
        tree |= {"metric": "sharpness", "label": {"metrics": ["sharpness"]}, "budget": "60%"}
        tree["train"] = {"estimators": ["ridge"], "folds": 2}
        tree["evaluate"] = {"bootstrap": 100, "set_metrics": [], "trials": 0}
        params = parse_params(tree, "params.yaml")
        stages = [sample, generate, label, validate]
        if refused_quality == "high":  # the labels of some prompts are incomplete
            stages += [train, calibrate, evaluate]
        for stage in stages:
            stage.run(workspace, params)
    output = capsys.readouterr().out
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    is_refused = prompts["prompt"].map(lambda text: sum(text.encode()) % 10 == 0)
    n_refused = int(is_refused.sum()) * (2 if refused_quality == "any" else 1)
    assert n_refused > 2
    assert f"label: {n_refused} images were refused and have no scores" in output
    scores = read_table(workspace.scores, SCORES, "label")
    assert len(scores) == 2 * len(prompts) - n_refused
    data = Dataset.read(workspace, "usd")
    expected = prompts[~is_refused] if refused_quality == "any" else prompts
    assert data.ids == list(expected["prompt_id"])
    missing = np.isnan(data.labels("sharpness")).sum()
    assert missing == (0 if refused_quality == "any" else n_refused)
    without_label = scores[scores["candidate"] != "painter-low"]
    lost = without_label.iloc[:1]["prompt_id"].item()
    incomplete = scores[~((scores["prompt_id"] == lost) & (scores["candidate"] == "painter-low"))]
    assert len(incomplete) == len(scores) - 1
    _rewrite_scores(workspace, incomplete)
    with pytest.raises(InputError, match=r"scores\.parquet"):
        validate.run(workspace, params)


def _rewrite_scores(workspace: Workspace, scores: pd.DataFrame) -> None:
    """Replace the scores, and keep the records in the metadata of the table."""
    from catimage.data.schema import read_inputs, read_refused, write_frames

    inputs, refused = (
        read_inputs(workspace.scores, "label"),
        read_refused(workspace.scores, "label"),
    )
    write_frames([scores], workspace.scores, SCORES, inputs, refused)


def test_transparent_images_of_a_server_are_stored_on_white(tmp_path: Path, miniature_pool: Path):
    def respond(_: int, body: dict[str, Any]) -> Response:
        buffer = io.BytesIO()
        Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(buffer, "PNG")
        return image_response(b64_json=base64.b64encode(buffer.getvalue()).decode())

    with run_server(respond) as server:
        workspace, params = make_workspace(tmp_path, server.url, miniature_pool)
        generate.run(workspace, params)
    assert all(decode_image(image).min() == 255 for image in images_of(workspace).values())

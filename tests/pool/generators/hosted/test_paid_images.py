"""Images that are paid for are requested once, and are never deleted automatically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from catimage.data.schema import CANDIDATES, read_table
from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import read_shard
from catimage.errors import InputError
from catimage.pool.loading import load_pool
from catimage.pool.measure import recorded_costs
from catimage.stages import generate
from tests.pool.generators.hosted.server import Response, error_response, run_server
from tests.pool.generators.hosted.test_refusals import (
    images_of,
    make_workspace,
    random_image,
    requests_of,
)


def test_another_batch_size_buys_no_image_again(tmp_path: Path, miniature_pool: Path):
    """The batch size is a setting for the memory of this computer."""
    with run_server(lambda _, body: random_image(body)) as server:
        workspace, params = make_workspace(tmp_path, server.url, miniature_pool)
        generate.run(workspace, params)
        bought = images_of(workspace)
        for size in (1, 3, 128):
            _, changed = make_workspace(
                tmp_path, server.url, miniature_pool, {"batch_size": size, "seeds": [0]}
            )
            generate.run(workspace, changed)
            assert images_of(workspace) == bought
        assert len(bought) == 16 and set(requests_of(server).values()) == {1}


@pytest.mark.parametrize("fails_after", [5, None])
def test_a_candidate_that_was_left_out_for_one_run_is_not_bought_again(
    tmp_path: Path, miniature_pool: Path, fails_after: int | None
):
    """The first run is complete, or fails after some images of the second candidate."""
    with run_server(lambda _, body: random_image(body)) as server:
        workspace, params = make_workspace(tmp_path, server.url, miniature_pool)
        if fails_after is not None:

            def fail(number: int, body: dict[str, Any]) -> Response:
                is_paid = number < 8 + fails_after
                return random_image(body) if is_paid else error_response(500, "oops")

            server.respond = fail
            with pytest.raises(InputError, match="status 500"):
                generate.run(workspace, params)
            server.respond = lambda _, body: random_image(body)
        else:
            generate.run(workspace, params)
        failed = max(0, len(server.bodies) - (8 + (8 if fails_after is None else fails_after)))
        file = Path(params.pool)
        tree = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({**tree, "candidates": tree["candidates"][:1]}))
        generate.run(workspace, params)
        assert {candidate for _, candidate in images_of(workspace)} == {"painter-low"}
        file.write_text(yaml.safe_dump(tree))
        generate.run(workspace, params)
        assert len(images_of(workspace)) == 16
        assert len(server.bodies) == 16 + failed


def test_seconds_of_hosted_candidates_are_those_of_their_images(
    tmp_path: Path, miniature_pool: Path
):
    """A measurement would request images that are paid for and not used."""
    with run_server(lambda _, body: random_image(body)) as server:
        workspace, params = make_workspace(tmp_path, server.url, miniature_pool)
        params = params.model_copy(update={"cost_unit": "seconds"})
        generate.run(workspace, params)
        generate.run(workspace, params)
        assert len(server.bodies) == 16
    generate.run(workspace, params)  # complete: the server is not needed
    costs = read_table(workspace.candidates, CANDIDATES, "generate").set_index(
        ["candidate", "unit"]
    )["cost"]
    assert len(costs) == 4 and costs["painter-low", "usd"] == 0.01
    for candidate in ("painter-low", "painter-high"):
        shards = [e.shard for e in read_manifest(workspace.images) if e.candidate == candidate]
        tables = [read_shard(workspace.images, shard)[0] for shard in shards]
        seconds = [value for table in tables for value in table.column("seconds").to_pylist()]
        assert len(seconds) == 8 and costs[candidate, "seconds"] == np.median(seconds) > 0


def test_unknown_seconds_of_a_hosted_candidate_are_an_error(tmp_path: Path, miniature_pool: Path):
    _, params = make_workspace(tmp_path, "http://127.0.0.1", miniature_pool)
    with pytest.raises(
        InputError,
        match=r"hosted\.yaml: the candidate 'painter-low' has no cost in 'seconds', and the seconds"
        r" of no image of it are known\. Add a cost in the pool file, or change cost_unit\.",
    ):
        recorded_costs(load_pool(params.pool), tmp_path, [])

"""Images that are paid for are requested once, and are never deleted automatically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.errors import InputError
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

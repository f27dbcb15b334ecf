"""Images that are paid for are requested once, and are never deleted automatically."""

from __future__ import annotations

from pathlib import Path

from catimage.stages import generate
from tests.pool.generators.hosted.server import run_server
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

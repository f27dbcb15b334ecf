"""The application with a real engine: images, previews and streams."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catimage.pool.loading import load_pool
from catimage.serving.generator.client import LocalGroup
from catimage.serving.generator.engine import Engine
from tests.serving.api.harness import running_app
from tests.serving.api.test_streaming import events_of


@pytest.fixture(scope="module")
def group(miniature_pool: Path) -> Iterator[LocalGroup]:
    engine = Engine(load_pool(str(miniature_pool)), "cpu", group="local")
    engine.start()
    yield LocalGroup("local", engine)
    engine.close()


def test_streams_have_the_same_images(calibrated_folder: Path, group: LocalGroup) -> None:
    async def main() -> None:
        async with running_app(calibrated_folder, group) as service:
            answer = await service.document(model="mini-4", n=2, seed=1)
            stream = await service.generate(
                model="mini-4", n=2, seed=1, stream=True, partial_images=2
            )
        data = [base64.b64decode(item["b64_json"]) for item in answer["data"]]
        images = [np.asarray(Image.open(io.BytesIO(d))) for d in data]
        assert images[0].shape == (64, 64, 3) and (images[0] != images[1]).any()
        events = events_of(stream.text)
        assert [n.rpartition(".")[2] for n, _ in events].count("completed") == 2
        assert {d["image_index"] for _, d in events if "partial_image_index" in d} == {0, 1}
        last = np.asarray(Image.open(io.BytesIO(base64.b64decode(events[-1][1]["b64_json"]))))
        assert np.abs(last.astype(int) - images[1]).max() <= 1

    asyncio.run(main())

import numpy as np
import pytest

from catimage.metrics.clip import shared_clip
from catimage.metrics.clip_score import ClipScore
from catimage.metrics.metric import Metric, MetricContext
from catimage.params import EncoderParams

PROMPTS = ["a red ring", "two blue squares", "a red ring"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> EncoderParams:
    from tests.miniature import save_clip_folder

    return EncoderParams(model=f"local-dir:{save_clip_folder(tmp_path_factory.mktemp('clip'))}")


class Warmth(Metric):
    """Another metric of the same CLIP."""

    name = "warmth"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, context.encoder)

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        return self._clip.cosines(images, ["a warm colour"] * len(images))


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(PROMPTS), 64, 64, 3), np.uint8)


def test_the_towers_run_once_for_two_metrics_of_a_batch(
    encoder: EncoderParams, monkeypatch: pytest.MonkeyPatch
):
    context = MetricContext(encoder, "cpu")
    metrics = [ClipScore(context), Warmth(context)]
    clip = shared_clip(context, encoder)
    assert clip is metrics[0]._clip is metrics[1]._clip
    counts = {"images": 0, "texts": 0}
    image, text = clip._model.encode_image, clip._model.encode_text
    monkeypatch.setattr(
        clip._model,
        "encode_image",
        lambda x, **k: (counts.update(images=counts["images"] + len(x)), image(x, **k))[1],
    )
    monkeypatch.setattr(
        clip._model,
        "encode_text",
        lambda x, **k: (counts.update(texts=counts["texts"] + len(x)), text(x, **k))[1],
    )
    first, second = _images(), _images()[::-1].copy()
    scores = [[m.score(batch, PROMPTS) for m in metrics] for batch in (first, second)]
    assert counts == {
        "images": 2 * len(PROMPTS),
        "texts": 3,
    }, "an image once a batch, a prompt once"
    alone = ClipScore(MetricContext(encoder, "cpu"))
    assert scores[0][0] == pytest.approx(alone.score(first, PROMPTS), abs=1e-6)
    assert scores[1][0] == pytest.approx(alone.score(second, PROMPTS), abs=1e-6)
    assert scores[1][1] == pytest.approx(scores[0][1][::-1], abs=1e-6)


def test_another_clip_and_another_context_are_loaded_by_themselves(
    encoder: EncoderParams, monkeypatch: pytest.MonkeyPatch
):
    made: list[EncoderParams] = []
    monkeypatch.setattr(
        "catimage.metrics.clip._loaded", lambda encoder, device: (made.append(encoder), object())[1]
    )
    context = MetricContext(encoder, "cpu")
    near = [EncoderParams(model="local-dir:/a/b"), EncoderParams(model="local-dir:/a-b")]
    assert near[0].name == near[1].name
    clips = [shared_clip(context, e) for e in (encoder, *near, encoder, *near)]
    assert made == [encoder, *near]
    assert clips[:3] == clips[3:]
    shared_clip(MetricContext(encoder, "cpu"), encoder)
    assert len(made) == 4

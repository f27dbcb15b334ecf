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
    """The cosine with a fixed text; uses the same CLIP as :class:`ClipScore`."""

    name = "warmth"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self._clip = shared_clip(context, context.encoder)

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        return self._clip.cosines(images, ["a warm colour"] * len(images))


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(PROMPTS), 64, 64, 3), np.uint8)


def test_two_metrics_share_the_embeddings_of_a_batch(
    encoder: EncoderParams, monkeypatch: pytest.MonkeyPatch
):
    context = MetricContext(encoder, "cpu")
    metrics = [ClipScore(context), Warmth(context)]
    clip = shared_clip(context, encoder)
    assert clip is metrics[0]._clip is metrics[1]._clip
    counts = {"images": 0, "texts": 0}
    encode_image, encode_text = clip._model.encode_image, clip._model.encode_text
    monkeypatch.setattr(
        clip._model,
        "encode_image",
        lambda x, **k: (counts.update(images=counts["images"] + len(x)), encode_image(x, **k))[1],
    )
    monkeypatch.setattr(
        clip._model,
        "encode_text",
        lambda x, **k: (counts.update(texts=counts["texts"] + len(x)), encode_text(x, **k))[1],
    )
    first, second = _images(), _images()[::-1].copy()
    scores = [[m.score(images, PROMPTS) for m in metrics] for images in (first, second)]
    assert counts == {
        "images": 2 * len(PROMPTS),
        "texts": 3,
    }, "each image of both batches and each distinct text is embedded once"
    alone = ClipScore(MetricContext(encoder, "cpu"))
    assert scores[0][0] == pytest.approx(alone.score(first, PROMPTS), abs=1e-6)
    assert scores[1][0] == pytest.approx(alone.score(second, PROMPTS), abs=1e-6)
    assert scores[1][1] == pytest.approx(scores[0][1][::-1], abs=1e-6)


def test_each_clip_is_loaded_once_per_context(
    encoder: EncoderParams, monkeypatch: pytest.MonkeyPatch
):
    loaded: list[EncoderParams] = []
    monkeypatch.setattr(
        "catimage.metrics.clip._load", lambda encoder, device: (loaded.append(encoder), object())[1]
    )
    context = MetricContext(encoder, "cpu")
    similar = [EncoderParams(model="local-dir:/a/b"), EncoderParams(model="local-dir:/a-b")]
    assert similar[0].name != similar[1].name
    clips = [shared_clip(context, e) for e in (encoder, *similar, encoder, *similar)]
    assert loaded == [encoder, *similar]
    assert clips[:3] == clips[3:]
    shared_clip(MetricContext(encoder, "cpu"), encoder)
    assert len(loaded) == 4

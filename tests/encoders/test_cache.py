import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from catimage.data.prompts.identity import prompt_id
from catimage.encoders import cache
from catimage.encoders.cache import CachedEncoder, cached_encoder, stored_embeddings
from catimage.encoders.embeddings import Embeddings
from catimage.params import EncoderParams


class RecordingEncoder:
    """A text encoder that records its prompts. The embedding of a prompt is its length."""

    name, context = "recording", 77

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        self.encoded += prompts
        lengths = np.array([len(p) for p in prompts])
        pooled = lengths[:, None].astype(np.float32)
        tokens = np.repeat(lengths, lengths)[:, None].astype(np.float16)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        layers = np.stack([lengths, -lengths], axis=1)[:, :, None].astype(np.float16)
        return Embeddings(
            [prompt_id(p) for p in prompts], pooled, layers, tokens, offsets, lengths > 3, self.name
        )

    def count_tokens(self, prompts: list[str]) -> tuple[list[int], list[bool]]:
        return [len(p) for p in prompts], [len(p) > 3 for p in prompts]


def test_each_prompt_is_encoded_once_and_embeddings_are_in_the_order_of_the_prompts():
    recording = RecordingEncoder()
    encoder = CachedEncoder(recording)
    encoder.encode(["a", "bb", "ccc"])
    embedded = encoder.encode(["ccc", "dddd", "a", "dddd", "bb"])
    assert recording.encoded == ["a", "bb", "ccc", "dddd"]
    assert embedded.pooled[:, 0].tolist() == [3, 4, 1, 4, 2]
    assert np.diff(embedded.offsets).tolist() == [3, 4, 1, 4, 2]
    assert embedded.tokens[:, 0].tolist() == [3] * 3 + [4] * 4 + [1] + [4] * 4 + [2] * 2
    assert embedded.layers[:, :, 0].tolist() == [[k, -k] for k in (3, 4, 1, 4, 2)]
    assert embedded.cut.tolist() == [False, True, False, True, False]
    assert embedded.prompt_ids[2] == prompt_id("a")


def test_memory_is_limited_and_the_last_call_is_cached_until_the_next_call():
    recording = RecordingEncoder()
    encoder = CachedEncoder(recording, max_bytes=2500)  # enough for two prompts
    prompts = ["a", "bb", "ccc", "dddd"]
    for _ in range(2):
        assert encoder.encode(prompts).pooled[:, 0].tolist() == [1, 2, 3, 4]
    assert recording.encoded == prompts
    assert encoder.encode(prompts[::-1]).pooled[:, 0].tolist() == [4, 3, 2, 1]
    assert recording.encoded == [*prompts, "dddd", "ccc"]
    for prompt in ("x", "x", "y", "x"):
        assert encoder.encode([prompt]).prompt_ids == [prompt_id(prompt)]
    assert recording.encoded[-4:] == ["ccc", "x", "y", "x"]
    with encoder.temporarily_cleared():
        encoder.encode(["x"])
    assert recording.encoded[-2:] == ["x", "x"]


def test_a_server_keeps_the_prompts_that_were_used_last_within_the_memory_limit():
    recording = RecordingEncoder()
    encoder = CachedEncoder(recording)
    encoder.encode(["old", "older"])
    encoder.keep_recent(2500)  # enough for two prompts
    for prompt in ("a", "bb", "a", "ccc", "a", "bb"):
        assert encoder.encode([prompt]).pooled[0, 0] == len(prompt)
    assert recording.encoded == ["old", "older", "a", "bb", "ccc", "bb"]
    assert list(encoder._rows) == ["a", "bb"]
    assert encoder._bytes == sum(map(cache._size, encoder._rows.values())) <= 2500


def test_a_server_returns_equal_embeddings_for_batches_of_cached_and_new_prompts():
    encoder, fresh = CachedEncoder(RecordingEncoder()), RecordingEncoder()
    encoder.keep_recent(10_000)
    for texts in (["a"], ["bb", "a", "ccc"], ["ccc"], ["dddd", "dddd"], ["a", "bb"]):
        cached, expected = encoder.encode(texts), fresh.encode(texts)
        for name in ("pooled", "layers", "tokens", "offsets", "cut"):
            assert np.array_equal(getattr(cached, name), getattr(expected, name))
        assert cached.prompt_ids == expected.prompt_ids


def test_concurrent_threads_of_a_server_stay_within_the_memory_limit():
    encoder = CachedEncoder(RecordingEncoder())
    encoder.keep_recent(20_000)
    prompts = [["a" * n, "b" * n] if n % 2 else ["c" * n] for n in range(1, 41)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(encoder.encode, prompts * 10))
    assert [e.pooled[0, 0] for e in found] == list(range(1, 41)) * 10
    assert encoder._bytes == sum(map(cache._size, encoder._rows.values())) <= 20_000


def test_a_prompt_that_occurs_twice_in_the_first_call_is_encoded_once():
    recording = RecordingEncoder()
    encoder = CachedEncoder(recording)
    assert encoder.encode(["a", "a"]).pooled[:, 0].tolist() == pytest.approx([1, 1])
    assert recording.encoded == ["a"]


def test_an_encoder_is_loaded_once_by_concurrent_threads(monkeypatch):
    loaded = []

    def load(spec):
        loaded.append(spec)
        threading.Event().wait(0.05)
        return RecordingEncoder()

    monkeypatch.setattr(cache, "load_encoder", load)
    spec = EncoderParams(model="only-in-this-test")
    threads = [threading.Thread(target=cached_encoder, args=(spec,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [spec]
    cache._cached_encoder.cache_clear()


def test_stored_embeddings_are_read_once_until_the_folder_changes(tmp_path, monkeypatch):
    reads, load = [], Embeddings.load
    monkeypatch.setattr(Embeddings, "load", lambda folder: reads.append(folder) or load(folder))
    folder = tmp_path / "recording"
    RecordingEncoder().encode(["a"]).save(folder)
    first = [stored_embeddings(folder) for _ in range(2)]
    RecordingEncoder().encode(["a", "bb"]).save(folder)
    assert (len(first[1]), len(stored_embeddings(folder)), len(reads)) == (1, 2, 2)


def test_concurrent_threads_fill_the_cache_without_counting_a_prompt_twice():
    encoder = CachedEncoder(RecordingEncoder())
    prompts = [["a" * n, "b" * n] for n in range(1, 21)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(encoder.encode, prompts * 10))
    assert [e.pooled[:, 0].tolist() for e in found] == [[n, n] for n in range(1, 21)] * 10
    sizes = [
        row.pooled.nbytes + row.layers.nbytes + row.tokens.nbytes for row in encoder._rows.values()
    ]
    assert encoder._bytes == sum(sizes) + 40 * cache._PROMPT_OVERHEAD

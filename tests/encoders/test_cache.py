import numpy as np
import pytest

from catimage.data.prompts.identity import prompt_id
from catimage.encoders.cache import Remembered
from catimage.encoders.embeddings import Embeddings


class Counting:
    name, context = "counting", 77

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        self.asked += prompts
        lengths = np.array([len(p) for p in prompts])
        pooled = lengths[:, None].astype(np.float32)
        tokens = np.repeat(lengths, lengths)[:, None].astype(np.float16)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        layers = np.stack([lengths, -lengths], axis=1)[:, :, None].astype(np.float16)
        return Embeddings(
            [prompt_id(p) for p in prompts], pooled, layers, tokens, offsets, lengths > 3, self.name
        )


def test_each_prompt_is_encoded_once_and_comes_back_in_order():
    inner = Counting()
    encoder = Remembered(inner)
    encoder.encode(["a", "bb", "ccc"])
    again = encoder.encode(["ccc", "dddd", "a", "dddd", "bb"])
    assert inner.asked == ["a", "bb", "ccc", "dddd"]
    assert again.pooled[:, 0].tolist() == [3, 4, 1, 4, 2]
    assert np.diff(again.offsets).tolist() == [3, 4, 1, 4, 2]
    assert again.tokens[:, 0].tolist() == [3] * 3 + [4] * 4 + [1] + [4] * 4 + [2] * 2
    assert again.layers[:, :, 0].tolist() == [[k, -k] for k in (3, 4, 1, 4, 2)]
    assert again.cut.tolist() == [False, True, False, True, False]
    assert again.prompt_ids[2] == prompt_id("a")


def test_memory_is_bounded_and_a_single_prompt_is_kept_until_the_next():
    inner = Counting()
    encoder = Remembered(inner, most=2500)  # two prompts
    for _ in range(2):
        assert encoder.encode(["a", "bb", "ccc", "dddd"]).pooled[:, 0].tolist() == [1, 2, 3, 4]
    assert inner.asked == ["a", "bb", "ccc", "dddd", "ccc", "dddd"]
    for prompt in ("x", "x", "y", "x"):
        assert encoder.encode([prompt]).prompt_ids == [prompt_id(prompt)]
    assert inner.asked[-4:] == ["dddd", "x", "y", "x"]
    with encoder.forgetting():
        encoder.encode(["x"])
    assert inner.asked[-2:] == ["x", "x"]


def test_a_prompt_twice_in_the_first_request():
    inner = Counting()
    assert Remembered(inner).encode(["a", "a"]).pooled[:, 0].tolist() == pytest.approx([1, 1])
    assert inner.asked == ["a"]

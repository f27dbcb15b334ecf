from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.prompts.identity import prompt_id
from catimage.encoders.embeddings import FIELDS, Embeddings, concatenated, in_batches
from catimage.errors import InputError


def made(lengths, name="p"):
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    pooled, tokens = rng.normal(size=(len(lengths), 4)), rng.normal(size=(offsets[-1], 3))
    ids, cut, layers = (
        [f"{name}{i}" for i in range(len(lengths))],
        np.arange(len(lengths)) == 0,
        rng.normal(size=(len(lengths), 2, 3)),
    )
    return Embeddings(
        ids, pooled.astype("f4"), layers.astype("f2"), tokens.astype("f2"), offsets, cut, "tiny"
    )


def tokens_of(embeddings, i):
    return embeddings.tokens[embeddings.offsets[i] : embeddings.offsets[i + 1]]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_take_gives_the_rows_asked_for_in_order(lengths, data):
    whole = made(lengths)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    taken = whole.take([f"p{i}" for i in rows])
    assert len(taken) == len(rows)
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(taken.pooled[place], whole.pooled[row])
        np.testing.assert_array_equal(taken.layers[place], whole.layers[row])
        assert taken.cut[place] == (row == 0)
        np.testing.assert_array_equal(tokens_of(taken, place), tokens_of(whole, row))


def test_saved_embeddings_come_back_the_same(tmp_path):
    made([2, 1, 3]).save(tmp_path / "tiny")
    made([1, 4]).save(tmp_path / "tiny")
    back, whole = Embeddings.load(tmp_path / "tiny"), made([1, 4])
    for name in FIELDS:
        array, expected = getattr(back, name), getattr(whole, name)
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    assert (back.prompt_ids, back.encoder, back.truncated) == (["p0", "p1"], "tiny", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_embeddings_join():
    both = concatenated([made([2, 1]), made([3], "q")])
    assert both.prompt_ids == ["p0", "p1", "q0"]
    assert both.offsets.tolist() == [0, 2, 3, 6]
    assert both.truncated == 2
    np.testing.assert_array_equal(both.layers[2:], made([3], "q").layers)
    np.testing.assert_array_equal(tokens_of(both, 2), made([3], "q").tokens)


@given(st.lists(st.text("ab", max_size=9), min_size=1, max_size=12), st.integers(1, 5))
def test_batches_hold_prompts_of_like_length_and_come_back_in_order(prompts, size):
    asked = []

    def encode(batch):
        asked.append([len(p) for p in batch])
        lengths = np.array(asked[-1], np.float32)[:, None]
        ids, n = [prompt_id(p) for p in batch], len(batch)
        return Embeddings(
            ids,
            lengths,
            np.zeros((n, 1, 1), "f2"),
            np.zeros((n, 1), "f2"),
            np.arange(n + 1),
            np.zeros(n, bool),
            "tiny",
        )

    found = in_batches(prompts, encode, size, progress=False)
    assert found.pooled[:, 0].tolist() == [len(p) for p in prompts]
    assert found.prompt_ids == [prompt_id(p) for p in prompts]
    assert list(chain(*asked)) == (
        sorted(map(len, prompts)) if len(prompts) > size else [len(p) for p in prompts]
    )
    assert max(map(len, asked)) <= size


def test_a_prompt_without_an_embedding_is_refused():
    with pytest.raises(InputError, match=r"1 prompts have no embedding by tiny \(first zz\)"):
        made([1]).take(["p0", "zz"])


def test_embeddings_that_are_not_whole_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not there: run 'catimage sample'"):
        Embeddings.load(tmp_path / "none")
    made([1]).save(tmp_path / "tiny")
    (tmp_path / "tiny" / "embeddings.safetensors").write_bytes(b"cut short")
    with pytest.raises(InputError, match="does not hold whole embeddings"):
        Embeddings.load(tmp_path / "tiny")

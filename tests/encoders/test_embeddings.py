from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.prompts.identity import prompt_id
from catimage.encoders.embeddings import FIELDS, Embeddings, concatenate, encode_in_batches
from catimage.errors import InputError


def random_embeddings(lengths, name="p"):
    """Return random embeddings of prompts with the given numbers of tokens."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    pooled, tokens = rng.normal(size=(len(lengths), 4)), rng.normal(size=(offsets[-1], 3))
    ids = [f"{name}{i}" for i in range(len(lengths))]
    cut, layers = np.arange(len(lengths)) == 0, rng.normal(size=(len(lengths), 2, 3))
    return Embeddings(
        ids, pooled.astype("f4"), layers.astype("f2"), tokens.astype("f2"), offsets, cut, "tiny"
    )


def tokens_of(embeddings, i):
    """Return the token states of prompt ``i``."""
    return embeddings.tokens[embeddings.offsets[i] : embeddings.offsets[i + 1]]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_take_returns_the_embeddings_of_the_given_prompts_in_order(lengths, data):
    embeddings = random_embeddings(lengths)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    taken = embeddings.take([f"p{i}" for i in rows])
    assert len(taken) == len(rows)
    for position, row in enumerate(rows):
        np.testing.assert_array_equal(taken.pooled[position], embeddings.pooled[row])
        np.testing.assert_array_equal(taken.layers[position], embeddings.layers[row])
        assert taken.cut[position] == (row == 0)
        np.testing.assert_array_equal(tokens_of(taken, position), tokens_of(embeddings, row))


def test_saved_embeddings_are_loaded_unchanged(tmp_path):
    random_embeddings([2, 1, 3]).save(tmp_path / "tiny")
    random_embeddings([1, 4]).save(tmp_path / "tiny")
    loaded, original = Embeddings.load(tmp_path / "tiny"), random_embeddings([1, 4])
    for name in FIELDS:
        array, expected = getattr(loaded, name), getattr(original, name)
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    assert (loaded.prompt_ids, loaded.encoder, loaded.truncated) == (["p0", "p1"], "tiny", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_concatenated_embeddings_contain_the_prompts_of_all_parts():
    both = concatenate([random_embeddings([2, 1]), random_embeddings([3], "q")])
    assert both.prompt_ids == ["p0", "p1", "q0"]
    assert both.offsets.tolist() == [0, 2, 3, 6]
    assert both.truncated == 2
    np.testing.assert_array_equal(both.layers[2:], random_embeddings([3], "q").layers)
    np.testing.assert_array_equal(tokens_of(both, 2), random_embeddings([3], "q").tokens)


@given(st.lists(st.text("ab", max_size=9), min_size=1, max_size=12), st.integers(1, 5))
def test_batches_contain_prompts_of_similar_length_and_the_order_is_restored(prompts, size):
    batch_lengths = []

    def encode(texts):
        batch_lengths.append([len(p) for p in texts])
        lengths = np.array(batch_lengths[-1], np.float32)[:, None]
        ids, n = [prompt_id(p) for p in texts], len(texts)
        return Embeddings(
            ids,
            lengths,
            np.zeros((n, 1, 1), "f2"),
            np.zeros((n, 1), "f2"),
            np.arange(n + 1),
            np.zeros(n, bool),
            "tiny",
        )

    embeddings = encode_in_batches(prompts, encode, size, progress=False)
    assert embeddings.pooled[:, 0].tolist() == [len(p) for p in prompts]
    assert embeddings.prompt_ids == [prompt_id(p) for p in prompts]
    assert list(chain(*batch_lengths)) == (
        sorted(map(len, prompts)) if len(prompts) > size else [len(p) for p in prompts]
    )
    assert max(map(len, batch_lengths)) <= size


def test_a_prompt_without_an_embedding_is_refused():
    with pytest.raises(
        InputError, match=r"embeddings/tiny: no embedding of 1 prompts \(the first is zz\)"
    ):
        random_embeddings([1]).take(["p0", "zz"])


def test_incomplete_embeddings_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none: folder not found\. Run 'catimage sample'"):
        Embeddings.load(tmp_path / "none")
    random_embeddings([1]).save(tmp_path / "tiny")
    (tmp_path / "tiny" / "embeddings.safetensors").write_bytes(b"truncated")
    with pytest.raises(
        InputError, match=r"safetensors: the file is damaged\. Run 'catimage sample'"
    ):
        Embeddings.load(tmp_path / "tiny")

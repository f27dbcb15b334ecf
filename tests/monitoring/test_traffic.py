"""Selection of rows of the decision log."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from catimage.monitoring.traffic import (
    RECENT_PROMPTS,
    embeddings_of,
    interval_start,
    new_prompts,
    row_counts,
    sampled,
    without_duplicates,
)
from tests.monitoring.decisions import NOON, decision, frame


def test_intervals_start_at_midnight():
    assert interval_start(NOON + timedelta(minutes=59), 60) == NOON
    assert interval_start(NOON + timedelta(minutes=60), 60) == NOON + timedelta(hours=1)
    assert interval_start(NOON + timedelta(minutes=17), 7.5) == NOON + timedelta(minutes=15)


def test_a_sample_has_rows_of_every_interval_in_order_of_time():
    rows = frame([decision(i) for i in range(120)])
    sample = sampled(rows, 60, 20)
    assert row_counts(sample, 60) == {
        NOON.isoformat(): 20,
        (NOON + timedelta(hours=1)).isoformat(): 20,
    }
    assert sample["time"].is_monotonic_increasing
    pd.testing.assert_frame_equal(sample, sampled(rows, 60, 20))
    part = sampled(rows[rows["time"] < NOON + timedelta(hours=1)], 60, 20)
    pd.testing.assert_frame_equal(sample.iloc[:20], part)
    assert len(sampled(rows, 60, 1000)) == 120 and len(sampled(rows.iloc[:0], 60, 5)) == 0


def test_training_prompts_and_repeated_prompts_do_not_count():
    ids = ["same", "trained", "same", "other"]
    rows = frame([decision(61 * i, prompt_id=name) for i, name in enumerate(ids)])
    kept, recent = new_prompts(rows, {"trained"}, [])
    assert kept["prompt_id"].tolist() == ["same", "other"]
    later, again = new_prompts(rows, {"trained"}, recent[1:])
    assert later["prompt_id"].tolist() == ["same"] and again == recent
    assert new_prompts(rows.iloc[:0], {"trained"}, recent)[1] == recent


def test_a_prompt_counts_again_after_many_others_however_the_rows_are_divided():
    ids = ["first", *map(str, range(RECENT_PROMPTS - 1)), "first", "last", "0"]
    rows = frame([decision(i, prompt_id=name) for i, name in enumerate(ids)])
    kept, recent = new_prompts(rows, frozenset(), [])
    assert kept["prompt_id"].tolist() == [*ids[:RECENT_PROMPTS], "last", "0"]
    assert len(recent) == RECENT_PROMPTS
    start, between = new_prompts(rows[:1500], frozenset(), [])
    end, again = new_prompts(rows[1500:], frozenset(), between)
    assert again == recent and len(start) + len(end) == len(kept)


def test_copied_rows_are_dropped_but_not_repeated_request_ids():
    rows = frame([decision(1), decision(1), decision(2, request_id="request-1")])
    assert len(without_duplicates(rows)) == 2


def test_prompts_without_an_embedding_of_the_width_are_encoded_if_they_are_logged():
    """In the order of the rows; an embedding of another encoder is ignored."""
    vectors = [np.ones(4), None, np.ones(3), None, None]
    prompts = [None, "a ring", "a disk", None, "a ring"]
    rows = frame(
        [
            decision(i, embedding=None if v is None else v.astype(np.float16), prompt=prompt)
            for i, (v, prompt) in enumerate(zip(vectors, prompts, strict=True))
        ]
    )
    calls = []

    def encode(texts):
        calls.append(texts)
        return np.array([[len(calls), i, 1 / 3, 0] for i in range(len(texts))], np.float32)

    found, without = embeddings_of(rows, 4, encode)
    assert calls == [["a ring", "a disk", "a ring"]] and without == 1
    assert found.dtype == np.float32 and found[:, 1].tolist() == [1, 2, 1, 2]
    assert found[1, 2] == np.float32(np.float16(1 / 3))  # as in the log
    assert embeddings_of(rows.iloc[[0, 3]], 4, encode)[0].shape == (1, 4) and len(calls) == 1
    assert embeddings_of(rows.iloc[:0], 4, encode)[0].shape == (0, 4)

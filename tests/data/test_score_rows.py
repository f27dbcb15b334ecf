import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from catimage.data.score_rows import MIN_SLOTS, ScoreRows
from catimage.errors import InputError

PROMPTS, CANDIDATES, PATH = ["p0", "p1", "p2", "p3"], ["b", "a"], Path("scores.csv")
SCORES = st.dictionaries(
    st.tuples(
        st.sampled_from([*PROMPTS, "unknown"]),
        st.sampled_from([*CANDIDATES, "removed"]),
        st.one_of(st.integers(0, 4), st.integers(-(2**63), 2**63 - 1)),
        st.sampled_from(["q", "other"]),
    ),
    st.one_of(st.integers(-9, 9).map(float), st.just(np.nan)),
    max_size=60,
)


def table_of(scores):
    """Return a scores table from a dictionary of values by prompt, candidate, seed and metric."""
    frame = pd.DataFrame(
        list(scores), columns=["prompt_id", "candidate", "seed", "metric"], dtype=object
    )
    return frame.astype({"seed": "int64"}).assign(version="1", value=list(scores.values()))


def by_label(scores):
    """Return the values of metric ``q`` by positions of prompt and candidate, then by seed."""
    values = defaultdict(dict)
    for (prompt, candidate, seed, metric), value in sorted(scores.items()):
        if metric == "q" and prompt in PROMPTS and candidate in CANDIDATES and value == value:
            values[PROMPTS.index(prompt), CANDIDATES.index(candidate)][seed] = value
    return values


def rows_of(scores):
    return ScoreRows.select(table_of(scores), "q", PROMPTS, CANDIDATES, PATH)


def cells():
    return np.ndindex(len(PROMPTS), len(CANDIDATES))


@settings(deadline=None)
@given(SCORES)
def test_labels_and_their_noise_agree_with_a_loop_over_all_scores(scores):
    expected = by_label(scores)
    if not expected:
        with pytest.raises(InputError, match="no score of the metric 'q' for these prompts"):
            rows_of(scores)
        return
    rows = rows_of(scores)
    labels, noise = rows.labels(complete=False), rows.label_noise()
    assert rows.negated().labels(complete=False) == pytest.approx(-labels, nan_ok=True)
    assert (noise is None) == all(len(values) < 2 for values in expected.values())
    for cell in cells():
        values = np.array(list(expected[cell].values()))
        mean = values.mean() if len(values) else np.nan
        assert labels[cell] == pytest.approx(mean, nan_ok=True)
        if noise is not None:
            variance = values.var(ddof=1) / len(values) if len(values) > 1 else np.nan
            assert noise[cell] == pytest.approx(variance, nan_ok=True)


@settings(deadline=None)
@given(SCORES)
def test_the_array_by_seed_contains_every_score_and_aligns_the_seeds_that_candidates_share(scores):
    expected = by_label(scores)
    if not expected:
        return
    array = rows_of(scores).by_seed()
    for i, _ in enumerate(PROMPTS):
        rows = [expected[i, j] for j in range(len(CANDIDATES))]
        seeds = sorted({seed for row in rows for seed in row})
        assume(len(seeds) <= MIN_SLOTS)
        shared = sum(all(seed in row for row in rows) for seed in seeds)
        for row, values in zip(rows, array[i], strict=True):
            assert sorted(values[~np.isnan(values)]) == sorted(row.values())
            if 2 * shared >= len(seeds):
                aligned = [row.get(seed, np.nan) for seed in seeds]
                assert values[: len(seeds)] == pytest.approx(aligned, nan_ok=True)
            else:
                assert values[: len(row)].tolist() == [row[seed] for seed in sorted(row)]


@given(SCORES, st.randoms())
def test_the_order_of_the_rows_does_not_matter(scores, random):
    if not by_label(scores):
        return
    shuffled = list(scores.items())
    random.shuffle(shuffled)
    rows, others = rows_of(scores), rows_of(dict(shuffled))
    assert (rows.labels(False) == others.labels(False)).tolist() == (
        ~np.isnan(rows.labels(False))
    ).tolist()
    assert np.array_equal(rows.by_seed(), others.by_seed(), equal_nan=True)


def test_missing_labels_and_unknown_metrics_are_refused():
    table = table_of({("p0", "a", 0, "q"): 1.0})
    with pytest.raises(
        InputError, match=r"scores\.csv: 1 prompts lack a score for at least one candidate"
    ):
        ScoreRows.select(table, "q", ["p0"], CANDIDATES, PATH).labels()
    with pytest.raises(InputError, match=r"no score of the metric 'z'.*table: q\."):
        ScoreRows.select(table, "z", ["p0"], CANDIDATES, PATH)


def test_a_seed_per_image_gives_one_position_and_seeds_that_are_shared_give_one_each():
    rng = np.random.default_rng(0)
    own, shared = (
        {
            (prompt, candidate, int(rng.integers(2**62)) if own else seed, "q"): rng.random()
            for prompt in PROMPTS
            for candidate in CANDIDATES
            for seed in range(3)
        }
        for own in (True, False)
    )
    for scores in (own, shared):
        array = rows_of(scores).by_seed()
        assert array.shape == (4, 2, 3) and not np.isnan(array).any()


def test_a_prompt_with_very_many_scores_does_not_widen_the_array():
    scores = {(prompt, candidate, 0, "q"): 1.0 for prompt in PROMPTS for candidate in CANDIDATES}
    scores |= {("p0", "a", seed, "q"): float(seed % 7) for seed in range(1000)}
    rows = rows_of(scores)
    assert rows.by_seed().shape == (4, 2, 2 * 1007 // 8 + 1)
    assert rows.labels()[0, 1] == pytest.approx(np.mean(np.arange(1000) % 7))
    few = {key: value for key, value in scores.items() if key[2] < 20}
    assert rows_of(few).by_seed().shape == (4, 2, MIN_SLOTS)


def test_memory_grows_with_the_scores_not_with_prompts_times_candidates_times_seeds():
    """With a seed per image, an array of all seeds would have 3.2 GB, the scores have 0.5 MB."""
    n, ids = 10_000, [f"p{i}" for i in range(10_000)]
    table = pd.DataFrame(
        {
            "prompt_id": np.repeat(ids, 2),
            "candidate": CANDIDATES * n,
            "seed": np.random.default_rng(0).permutation(2 * n),
            "metric": "q",
            "version": "1",
            "value": 1.0,
        }
    )
    tracemalloc.start()
    rows = ScoreRows.select(table, "q", ids, CANDIDATES, PATH)
    rows.labels(), rows.label_noise(), rows.by_seed()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6

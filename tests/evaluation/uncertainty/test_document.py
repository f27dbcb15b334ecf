import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.uncertainty.document import coverage, coverage_rows
from tests.evaluation.uncertainty.conftest import CANDIDATES, predictions_and_scores


def test_a_correct_spread_has_the_nominal_coverage():
    test, by_seed = predictions_and_scores(400, 1)
    seed_share = np.array([0.8, np.nan])
    bootstrap = PairedBootstrap(400, 500, 0)
    rows = coverage_rows(test, by_seed.mean(axis=2), CANDIDATES.names, bootstrap, seed_share)
    for row in rows:
        assert row["interval_68"][0] <= 0.6827 <= row["interval_68"][1]
        assert row["interval_95"][0] <= 0.95 <= row["interval_95"][1]
        assert row["spread"] == pytest.approx(row["error"], rel=0.15)
    assert [row["seed_share"] for row in rows] == [0.8, None]


@settings(max_examples=30, deadline=None)
@given(
    npst.arrays(float, st.integers(1, 30), elements=st.floats(-5, 5)),
    st.floats(0.1, 3),
    st.floats(1, 4),
)
def test_a_wider_spread_covers_at_least_as_many_labels(error, spread, factor):
    bootstrap = PairedBootstrap(len(error), 100, 0)
    narrow, wide = (
        coverage("a", error, np.full(len(error), s), bootstrap) for s in (spread, factor * spread)
    )
    assert narrow["coverage_68"] <= wide["coverage_68"]
    assert narrow["coverage_68"] <= narrow["coverage_95"]
    assert wide["interval_95"][0] <= wide["coverage_95"] <= wide["interval_95"][1]

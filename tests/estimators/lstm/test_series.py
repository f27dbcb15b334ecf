import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from catimage.estimators.lstm.series import series_of, targets_of


def test_a_generator_is_a_series_and_a_repeated_step_begins_another():
    steps = np.array([8, 1, 4, 8, 2, 8])
    found = series_of(steps, np.array(["sd", "sd", "turbo", "sd", "sd", "turbo"]), every_step=False)
    assert [s.columns.tolist() for s in found] == [[1, 4, 0], [2, 5], [3]]
    assert [s.steps.tolist() for s in found] == [[1, 2, 8], [4, 8], [8]]


def test_every_step_lies_between_the_fewest_and_the_most():
    (found,) = series_of(np.array([3, 7]), np.array(["sd", "sd"]), every_step=True)
    assert found.places.tolist() == [3, 4, 5, 6, 7]
    assert found.at.tolist() == [0, 4]


@given(arrays(float, (5, 4), elements=st.one_of(st.floats(0, 1), st.just(np.nan))), st.booleans())
def test_targets_are_linear_between_the_labels_that_there_are(labels, every_step):
    (series,) = series_of(np.array([1, 2, 5, 9]), np.array(["sd"] * 4), every_step)
    found = targets_of(labels, series)
    for row, given_labels in zip(found, labels, strict=True):
        known = ~np.isnan(given_labels)
        if not known.any():
            assert np.isnan(row).all()
            continue
        expected = np.interp(
            series.places, series.steps[known], given_labels[known], left=np.nan, right=np.nan
        )
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_whole_labels_at_the_sampled_steps_are_themselves():
    (series,) = series_of(np.array([1, 2]), np.array(["sd", "sd"]), every_step=False)
    labels = np.array([[0.1, 0.2]])
    assert targets_of(labels, series) is labels

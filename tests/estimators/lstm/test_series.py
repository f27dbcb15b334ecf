import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from catimage.estimators.lstm.series import interpolate_labels, split_into_series


def test_a_step_group_is_a_series_and_equal_numbers_of_steps_start_another_series():
    steps = np.array([8, 1, 4, 8, 2, 8])
    groups = np.array(["sd", "sd", "turbo", "sd", "sd", "turbo"])
    series = split_into_series(steps, groups, every_step=False)
    assert [s.columns.tolist() for s in series] == [[1, 4, 0], [2, 5], [3]]
    assert [s.steps.tolist() for s in series] == [[1, 2, 8], [4, 8], [8]]


def test_all_steps_between_the_smallest_and_the_largest_are_predicted():
    (series,) = split_into_series(np.array([3, 7]), np.array(["sd", "sd"]), every_step=True)
    assert series.predicted_steps.tolist() == [3, 4, 5, 6, 7]
    assert series.positions.tolist() == [0, 4]


@given(arrays(float, (5, 4), elements=st.one_of(st.floats(0, 1), st.just(np.nan))), st.booleans())
def test_labels_are_interpolated_linearly_between_labelled_steps(labels, every_step):
    (series,) = split_into_series(np.array([1, 2, 5, 9]), np.array(["sd"] * 4), every_step)
    interpolated = interpolate_labels(labels, series)
    for row, row_labels in zip(interpolated, labels, strict=True):
        present = ~np.isnan(row_labels)
        if not present.any():
            assert np.isnan(row).all()
            continue
        expected = np.interp(
            series.predicted_steps,
            series.steps[present],
            row_labels[present],
            left=np.nan,
            right=np.nan,
        )
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_complete_labels_at_the_sampled_steps_are_returned_unchanged():
    (series,) = split_into_series(np.array([1, 2]), np.array(["sd", "sd"]), every_step=False)
    labels = np.array([[0.1, 0.2]])
    assert interpolate_labels(labels, series) is labels

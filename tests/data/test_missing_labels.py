import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.data.missing_labels import complete_rows, mean_labels


def test_complete_rows_have_a_label_for_every_candidate():
    assert complete_rows(np.array([[1, 2], [np.nan, 1], [3, 4], [np.nan, np.nan]])).tolist() == [
        0,
        2,
    ]


def test_mean_labels_are_plain_means_if_no_label_is_missing():
    labels = np.random.default_rng(0).random((9, 4))
    assert (mean_labels(labels) == labels.mean(axis=0)).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 30), st.integers(2, 5), st.integers(0, 10**6))
def test_missing_labels_do_not_change_the_means_of_additive_labels(n, m, seed):
    rng = np.random.default_rng(seed)
    complete = rng.normal(size=(n, 1)) + rng.normal(size=m)
    labels = np.where(rng.random((n, m)) < 0.4, np.nan, complete)
    labels[:, 0] = complete[:, 0]  # every candidate is compared with the first on some prompt
    labels[0] = complete[0]
    assert mean_labels(labels) == pytest.approx(complete.mean(axis=0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_mean_labels_are_the_least_squares_fit(seed):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((8, 3)) < 0.3, np.nan, rng.normal(size=(8, 3)))
    labels[:, 0] = rng.normal(size=8)
    labels[0] = rng.normal(size=3)
    rows, columns = np.nonzero(~np.isnan(labels))
    design = np.concatenate([np.eye(8)[rows], np.eye(3)[columns]], axis=1)
    fit = np.linalg.lstsq(design, labels[rows, columns], rcond=None)[0]
    assert mean_labels(labels) == pytest.approx(fit[8:] + fit[:8].mean())


def test_a_candidate_scored_on_easy_prompts_only_has_no_advantage():
    easy = np.arange(10) % 2
    labels = np.stack([easy + 0.1, np.where(easy, easy, np.nan)], axis=1)
    assert np.nanmean(labels, axis=0).argmax() == 1 and mean_labels(labels).argmax() == 0


def test_prompts_without_any_label_are_ignored():
    labels = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, np.nan]])
    assert mean_labels(labels) == pytest.approx(mean_labels(labels[[0, 2]]))

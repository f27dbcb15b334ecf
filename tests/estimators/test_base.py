import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.dummy import DummyRegressor

from catimage.errors import InputError
from catimage.estimators.base import missing_label_patterns, validate_labels
from catimage.estimators.clusters import ClusterRegressor
from catimage.estimators.differences import DifferencesRegressor
from catimage.estimators.ragged_arrays import RaggedArray

NAN = np.nan


def test_candidates_are_grouped_by_the_prompts_whose_labels_are_missing():
    labels = np.array([[1.0, NAN, 1.0, NAN], [1.0, 2.0, NAN, 2.0], [1.0, 2.0, 3.0, 2.0]])
    groups = {
        tuple(columns): present.tolist() for present, columns in missing_label_patterns(labels)
    }
    assert groups == {
        (0,): [True, True, True],
        (1, 3): [False, True, True],
        (2,): [True, False, True],
    }
    (present, columns), *others = missing_label_patterns(np.ones((2, 3)))
    assert present.all() and columns.tolist() == [0, 1, 2] and not others


def test_infinite_labels_and_candidates_without_labels_are_refused():
    assert validate_labels([1, 2]).dtype == np.float64
    with pytest.raises(
        InputError, match=r"candidate 2 \(in order of cost\) has no label for any of 2"
    ):
        validate_labels([[1.0, NAN], [2.0, NAN]])
    with pytest.raises(ValueError, match="infinity"):
        validate_labels([1.0, np.inf])


def test_regressors_of_dense_features_reject_sparse_features():
    with pytest.raises(InputError, match="ClusterRegressor needs dense features"):
        ClusterRegressor().fit(csr_matrix(np.eye(4)), np.eye(4))


def test_wrappers_pass_prompts_and_token_embeddings_to_their_regressor():
    inputs = []

    class Recorder(DummyRegressor):
        def fit(self, X, y):
            inputs.append(X)
            return super().fit(np.zeros((len(y), 1)), y)

    labels = np.array([[1.0, 2.0], [2.0, 1.0]])
    tokens = RaggedArray(np.zeros((5, 3)), np.array([0, 2, 5]))
    for x in (["a red ring", "a star"], np.array(["a red ring", "a star"], object), tokens):
        DifferencesRegressor(Recorder()).fit(x, labels)
    assert [type(x) for x in inputs] == [np.ndarray, np.ndarray, RaggedArray]
    assert inputs[0].tolist() == ["a red ring", "a star"] and inputs[2] is tokens
    with pytest.raises(ValueError, match="X has 2 prompts, but y has 1 rows"):
        DifferencesRegressor(Recorder()).fit(tokens, labels[:1])

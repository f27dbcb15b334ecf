import numpy as np
import pytest
from scipy.sparse import csr_matrix

from catimage.estimators.representatives import dense_unit_vectors, representatives


def clustered(sizes=(50, 30, 20), width=8, seed=0):
    """Return vectors in clusters around orthogonal unit vectors, and the cluster of each vector."""
    rng = np.random.default_rng(seed)
    parts = [np.eye(width)[i] + rng.normal(0, 0.02, (n, width)) for i, n in enumerate(sizes)]
    return np.concatenate(parts), np.repeat(np.arange(len(sizes)), sizes)


def test_every_cluster_has_one_representative():
    vectors, cluster = clustered()
    assert sorted(cluster[representatives(vectors, 3)]) == [0, 1, 2]


def test_a_representative_is_the_prompt_nearest_to_the_center_of_the_cluster():
    vectors, cluster = clustered()
    units = dense_unit_vectors(vectors)
    for row in representatives(vectors, 3):
        members = units[cluster == cluster[row]]
        distances = ((members - members.mean(axis=0)) ** 2).sum(axis=1)
        distance = ((units[row] - members.mean(axis=0)) ** 2).sum()
        assert distance == pytest.approx(distances.min(), rel=1e-6)


@pytest.mark.parametrize("count", [1, 20, 99])
def test_rows_are_distinct_sorted_and_reproducible(count):
    vectors, _ = clustered()
    rows = representatives(vectors, count)
    assert len(np.unique(rows)) == len(rows) == count
    assert (np.diff(rows) > 0).all()
    assert (representatives(vectors, count) == rows).all()


def test_all_rows_are_returned_if_the_count_exceeds_their_number():
    vectors, _ = clustered()
    assert representatives(vectors, 500).tolist() == list(range(100))


def test_equal_prompts_may_be_selected_several_times():
    assert representatives(np.ones((10, 3)), 4).shape == (4,)


def test_sparse_features_are_accepted():
    vectors, cluster = clustered(width=40)
    assert sorted(cluster[representatives(csr_matrix(vectors), 3)]) == [0, 1, 2]

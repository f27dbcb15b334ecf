"""Rows without repetitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from catimage.common.distinct_rows import distinct_rows

ROWS = hnp.arrays(
    np.int64, st.tuples(st.integers(0, 9), st.integers(1, 3)), elements=st.integers(0, 1)
)


@given(ROWS)
def test_each_row_is_returned_once_in_order_of_its_first_position(values):
    distinct, positions = distinct_rows(values)
    assert distinct[positions].tolist() == values.tolist()
    assert distinct.tolist() == [list(row) for row in dict.fromkeys(map(tuple, values.tolist()))]
    assert (positions.shape, positions.dtype) == ((len(values),), np.int64)


def test_missing_values_are_equal():
    distinct, positions = distinct_rows(np.array([[np.nan, 1.0], [2.0, 1.0], [np.nan, 1.0]]))
    assert (len(distinct), positions.tolist()) == (2, [0, 1, 0])

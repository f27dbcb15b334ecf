import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.importers.columns import parse_numbers, parse_seeds
from catimage.data.importers.tables import read_user_table
from catimage.errors import InputError


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Return a function that writes one column of a CSV file and returns the table."""
    path = tmp_path_factory.mktemp("columns") / "f.csv"

    def write(name, cells):
        pd.DataFrame({name: cells}, dtype="str").to_csv(path, index=False)
        return read_user_table(path)

    return write


@pytest.mark.parametrize(
    ("cells", "seeds"),
    [
        (["0.0", "1.0", "17."], [0, 1, 17]),
        ([" 5 ", "+6", "-7"], [5, 6, -7]),
        (["1e3", "1.5e1"], [1000, 15]),
        ([str(2**63 - 1), str(-(2**63))], [2**63 - 1, -(2**63)]),
        ([str(2**64 - 1), str(2**63), "3"], [-1, -(2**63), 3]),
        (["15112855600461543721"], [15112855600461543721 - 2**64]),
    ],
)
def test_seeds_are_read_as_64_bits(read, cells, seeds):
    assert parse_seeds(read("seed", cells)).tolist() == seeds


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20, unique=True))
def test_unsigned_seeds_are_kept_apart_and_can_be_restored(read, seeds):
    stored = parse_seeds(read("seed", [str(seed) for seed in seeds]))
    assert stored.dtype == np.int64
    assert stored.view(np.uint64).tolist() == seeds


@pytest.mark.parametrize("text", ["1.5", "", "x", "nan", "inf", str(2**64), "1e30", "1e999999999"])
def test_other_seeds_are_refused(read, text):
    with pytest.raises(InputError, match=f"row 3: the seed is {text!r}, not a whole number of at"):
        parse_seeds(read("seed", ["1", text]))


def test_negative_seeds_beside_seeds_above_the_signed_range_are_refused(read):
    with pytest.raises(InputError, match="the seeds are between -1 and 18446744073709551615"):
        parse_seeds(read("seed", ["-1", str(2**64 - 1)]))


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1e-3", "85e-5"], [0.001, 0.00085]),
        ([" 1", "+2", "-0.0", ".5"], [1, 2, 0, 0.5]),
        (
            [repr(0.1 + 0.2), "5e-324", "1.7976931348623157e308"],
            [0.1 + 0.2, 5e-324, 1.7976931348623157e308],
        ),
    ],
)
def test_numbers_are_read_exactly(read, cells, values):
    assert parse_numbers(read("value", cells), "value").tolist() == values


@pytest.mark.parametrize("text", ["1e400", "0,5", "1_0", "0x10", "true", "", "NaN", "-Infinity"])
def test_other_numbers_are_refused(read, text):
    with pytest.raises(InputError, match=f"row 3: the value is {text!r}, not a finite number"):
        parse_numbers(read("value", ["1", text]), "value")

import csv
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.importers.delimited import read_columns, read_text
from catimage.errors import InputError

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("delimited") / "file.csv"


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_a_csv_file_is_unchanged_by_a_round_trip(file, cells):
    text = StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *cells])
    file.write_bytes(text.getvalue().encode())
    rows = read_columns(file, ["b", "a"])
    assert list(zip(rows.columns["a"], rows.columns["b"], strict=True)) == cells


def test_line_numbers_count_quoted_and_blank_lines(file):
    file.write_text('x,y\n1,"two\nlines"\n\n3,4\n')
    rows = read_columns(file, ["y"])
    assert rows.columns["y"] == ["two\nlines", "4"]
    assert rows.line_numbers == [2, 5]


def test_a_byte_order_mark_is_ignored(file):
    file.write_bytes(b"\xef\xbb\xbfx\n1\n")
    assert read_columns(file, ["x"]).columns == {"x": ["1"]}


def test_quotation_marks_in_tsv_are_plain_characters(file):
    file.write_text('prompt\tnote\n"HI" on a wall\tx\n')
    assert read_columns(file, ["prompt"], tabs=True).columns["prompt"] == ['"HI" on a wall']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"prompt\n", "no rows after the header"),
        (b"promt\nhi\n", "did you mean 'promt'"),
        (b"prompt,prompt\na,b\n", "the column 'prompt' occurs twice"),
        (b"prompt,x\na,b\na,b,c\n", "row 3 has 3 cells"),
        (b"prompt\nok\n\xff\xfe\n", "row 3 is not UTF-8"),
        (b'prompt\n"not closed\nx\n', "cannot parse row 2"),
        (b'prompt\nok\n"' + b"x" * 200_000 + b'"\n', "cannot parse row 3"),
    ],
)
def test_an_invalid_file_is_refused(file, content, message):
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_columns(file, ["prompt"])
    assert str(file) in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="file not found"):
        read_text(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="cannot read the file"):
        read_text(tmp_path)

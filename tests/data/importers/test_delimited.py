import csv
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.importers.delimited import read_rows, read_text
from catimage.errors import InputError

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("delimited") / "file.csv"


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_a_csv_file_comes_back_as_it_was_written(file, cells):
    text = StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *cells])
    file.write_bytes(text.getvalue().encode())
    rows = read_rows(file, ["b", "a"])
    assert list(zip(rows.columns["a"], rows.columns["b"], strict=True)) == cells


def test_rows_are_numbered_as_lines_of_the_file(file):
    file.write_text('x,y\n1,"two\nlines"\n\n3,4\n')
    rows = read_rows(file, ["y"])
    assert rows.columns["y"] == ["two\nlines", "4"]
    assert rows.numbers == [2, 5]


def test_a_byte_order_mark_is_not_part_of_the_header(file):
    file.write_bytes(b"\xef\xbb\xbfx\n1\n")
    assert read_rows(file, ["x"]).columns == {"x": ["1"]}


def test_a_quotation_mark_in_tsv_is_a_letter(file):
    file.write_text('prompt\tnote\n"HI" on a wall\tx\n')
    assert read_rows(file, ["prompt"], tabs=True).columns["prompt"] == ['"HI" on a wall']


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"prompt\n", "no row below"),
        (b"promt\nhi\n", "did you mean 'promt'"),
        (b"prompt,prompt\na,b\n", "twice"),
        (b"prompt,x\na,b\na,b,c\n", "row 3 has 3 cells"),
        (b"prompt\nok\n\xff\xfe\n", "row 3 is not UTF-8"),
        (b'prompt\n"never closed\nx\n', "row 2 is not readable"),
        (b'prompt\nok\n"' + b"x" * 200_000 + b'"\n', "row 3 is not readable"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(file, content, said):
    file.write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        read_rows(file, ["prompt"])
    assert str(file) in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        read_text(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path)

import csv
from io import StringIO

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.importers.tables import read_user_table
from catimage.data.importers.text_files import read_text
from catimage.errors import InputError

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("delimited") / "file.csv"


def cells_of(path, name):
    return read_user_table(path).cells(name).to_pylist()


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_a_csv_file_is_unchanged_by_a_round_trip(file, cells):
    text = StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *cells])
    file.write_bytes(text.getvalue().encode())
    rows = read_user_table(file)
    columns = (rows.cells(name).to_pylist() for name in ("a", "b"))
    assert list(zip(*columns, strict=True)) == cells


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_row_numbers_are_the_lines_on_which_rows_begin(file, cells):
    text = StringIO(newline="")
    writer, lines = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n"), []
    for row in [("a", "b"), *cells]:
        lines.append(len(text.getvalue().replace("\r\n", "\n").replace("\r", "\n").split("\n")))
        writer.writerow(row)
    file.write_bytes(text.getvalue().encode())
    assert read_user_table(file).row_numbers.tolist() == lines[1:]


def test_blank_lines_count_in_row_numbers(file):
    file.write_text('x,y\n1,"two\nlines"\n\n3,4\n')
    rows = read_user_table(file)
    assert rows.cells("y").to_pylist() == ["two\nlines", "4"]
    assert rows.row_numbers.tolist() == [2, 5]
    file.write_text("x,y\n\n1,2\n")
    assert read_user_table(file).row_numbers.tolist() == [3]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfx,y\n1,2\n",
        "x\ty\n1\t2\n".encode("utf-16"),
        b"x,y\r\n1,2\r\n",
        b"x,y\r1,2\r",
        b"x;y\n1;2\n",
        b"x\ty\n1\t2",
        b' x ,"y"\n1,2\n',
    ],
)
def test_encoding_delimiter_and_line_ends_are_recognised(file, content):
    file.write_bytes(content)
    rows = read_user_table(file)
    assert rows.names == ["x", "y"]
    assert [rows.cells(name).to_pylist() for name in rows.names] == [["1"], ["2"]]


def test_a_comma_in_the_texts_of_a_file_with_semicolons_is_kept(file):
    file.write_text("prompt;value\na cat, asleep;0,5\n")
    rows = read_user_table(file)
    assert rows.cells("prompt").to_pylist() == ["a cat, asleep"]
    assert rows.decimal_comma


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        # quoted by pandas
        ('prompt\tx\n"a ""b"" c"\t1\n"""d"""\t2\n', ['a "b" c', '"d"']),
        # not quoted: a quotation mark is followed by text
        ('prompt\tx\n"HI" on a wall\t1\n"ok"\t2\n', ['"HI" on a wall', '"ok"']),
        # not quoted: a quotation mark is not closed
        ('prompt\tx\n"HI on a wall\t1\n', ['"HI on a wall']),
        # not quoted: closing the first mark at the second would merge two rows
        ('prompt\tx\n"to be\t1\nor not"\t2\n', ['"to be', 'or not"']),
        # in the middle of a cell
        ('prompt\tx\na 5" pipe\t1\n', ['a 5" pipe']),
    ],
)
def test_quotation_marks_in_tsv_files_quote_cells_if_all_of_them_can(tmp_path, content, texts):
    (tmp_path / "f.tsv").write_text(content)
    assert cells_of(tmp_path / "f.tsv", "prompt") == texts


def test_line_breaks_and_tabs_inside_the_cells_of_a_tsv_file_are_kept(tmp_path):
    frame = pd.DataFrame({"x": ["a\tb", 'c\n"d"', "e"], "y": [1, 2, 3]})
    frame.to_csv(tmp_path / "f.tsv", sep="\t", index=False)
    assert cells_of(tmp_path / "f.tsv", "x") == frame["x"].tolist()


@pytest.mark.parametrize("size", [200_000, 3_000_000])
@pytest.mark.parametrize("quote", ["", '"'])
def test_large_cells_are_read(file, size, quote):
    file.write_text(f"x,extra\n1,{quote}{'A' * size}{quote}\n2,\n")
    assert cells_of(file, "x") == ["1", "2"]
    assert len(cells_of(file, "extra")[0]) == size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"prompt\n", "no rows after the header"),
        (b"promt\nhi\n", "did you mean 'promt'"),
        (b"prompt,prompt\na,b\n", "the column 'prompt' occurs twice"),
        (b"prompt,x\na,b\na,b,c\n", "row 3 has 3 cells and the header has 2"),
        (b"prompt,x\na,b\n\na\n", "row 4 has 1 cells and the header has 2"),
        (b'prompt,x\n"a\nb",b\na,b,c\n', "row 4 has 3 cells and the header has 2"),
        (b"prompt\nok\n\xff\xfe\n", "row 3 is not UTF-8"),
        (b"\xff\xfea", "row 1 is not UTF-16"),
        (b'prompt\nok\n"not closed\nx\n', "cannot parse row 3: a quotation mark is not closed"),
        (b'prompt,x\n"closed" early,1\n', "cannot parse row 2"),
    ],
)
def test_an_invalid_file_is_refused(file, content, message):
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_user_table(file).cells("prompt")
    assert str(file) in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="file not found"):
        read_text(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="cannot read the file"):
        read_text(tmp_path)

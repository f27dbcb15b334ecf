import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.common.names import check_name, folder_name, name_problem
from catimage.errors import InputError


@pytest.mark.parametrize("name", ["clip_score", "CLIP score (v2)", "a.b-c", "質", "1"])
def test_names_of_files_are_accepted(name):
    assert name_problem(name) is None
    assert name_problem(name, slashes=True) is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        (" a", "white space"),
        ("..", "full stop"),
        (".a.new", "full stop"),
        ("../../x", "a slash"),
        ("/abs/path", "a slash"),
        ("a\\b", "a backslash"),
        ("a\nb", "a control character"),
        ("a\x00", "a control character"),
        ("é" * 100, "longer than 150 bytes"),
    ],
)
def test_other_names_are_refused(name, problem):
    assert problem in name_problem(name)
    with pytest.raises(InputError, match=r"f.csv: row 2: the metric .* Rename it"):
        check_name(name, "f.csv: row 2: the metric")


@pytest.mark.parametrize("name", ["/a", "a/", "../a", "a/../b", "a//b", "a/.b", ".", "a\\b"])
def test_names_with_slashes_must_not_be_paths(name):
    assert name_problem(name, slashes=True)
    assert name_problem("owner/model-1.5", slashes=True) is None


def test_a_plain_name_is_the_name_of_its_folder():
    assert folder_name("tiny") == "tiny"


PART = st.text("ab-./\\ :A", max_size=4)


@given(st.lists(PART, min_size=1, max_size=3), st.lists(PART, min_size=1, max_size=3))
def test_different_texts_have_different_folders_and_no_folder_is_a_path(first, second):
    assert (folder_name(*first) == folder_name(*second)) == (first == second)
    assert name_problem(folder_name(*first)) is None
    assert "/" not in folder_name(*first)
    assert folder_name(*first) not in (".", "..")

import pytest

from catimage.common.paths import existing_path


@pytest.mark.parametrize("name", ["a/b.csv", "a\\b.csv", ".\\a\\b.csv"])
def test_paths_of_any_operating_system_are_found(tmp_path, name):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.csv").touch()
    assert existing_path(tmp_path, name).samefile(tmp_path / "a" / "b.csv")


def test_a_file_with_a_backslash_in_its_name_takes_precedence(tmp_path):
    (tmp_path / "a\\b.csv").touch()
    assert existing_path(tmp_path, "a\\b.csv") == tmp_path / "a\\b.csv"


def test_absolute_paths_are_kept(tmp_path):
    assert existing_path(tmp_path, str(tmp_path / "x")) == tmp_path / "x"

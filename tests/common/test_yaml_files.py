"""Reading of YAML files: numbers of YAML 1.2, and messages for invalid files, with the line."""

import pytest

from catimage.common.yaml_files import read_yaml
from catimage.errors import InputError


def test_values_are_those_of_yaml_1_2(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffa: [1e-3, 85e-5, 1E3, no, off, 0o10, 010, ü]\n", encoding="utf-8")
    assert read_yaml(path) == {"a": [0.001, 0.00085, 1000.0, "no", "off", 8, 10, "ü"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2", "line 2: a bracket is not closed, or a comma is missing"),
        ("a: 1\na: 2", "line 2: the key 'a' occurs twice. Remove one."),
        ("a:\n\tb: 1", "line 2: a tab is used to indent. Use spaces."),
        ("a: 'b", "line 1: a quotation mark is not closed. Add it."),
        ("a: b: c", "line 1: a colon is missing or misplaced"),
        ("a:\n  b: 1\n c: 2", "line 3: the line is indented wrongly"),
        ("a: @b", "line 1: a string begins with a special character"),
        ("a: *b", r"line 1: '\*' begins an alias in YAML"),
        ("a: \x01", "the file has characters that YAML does not allow. Remove them."),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n", "line 2: a merge conflict of git. Resolve it."),
    ],
)
def test_the_message_for_an_invalid_file_has_the_line_and_the_fix(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_yaml(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)

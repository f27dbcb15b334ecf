import pytest

from catimage.data.prompts.cleaning import TOO_LONG, clean
from catimage.data.prompts.identity import normalise
from catimage.errors import InputError


def test_a_prompt_is_normalised():
    assert clean("  a\tcafe\u0301 \n", "here") == normalise("a café") == "a café"


@pytest.mark.parametrize(
    ("text", "said"),
    [(" \t\n", "empty"), ("x" * TOO_LONG, "100,000 characters"), ("a \ud800", "surrogate")],
)
def test_what_is_no_prompt_is_refused(text, said):
    with pytest.raises(InputError, match=f"^row 7: .*{said}"):
        clean(text, "row 7")


def test_the_longest_prompt_passes_and_one_letter_more_does_not():
    assert clean("abc", "here", longest=3) == "abc"
    with pytest.raises(InputError, match="4 characters, more than 3"):
        clean("abcd", "here", longest=3)

import pytest

from catimage.data.prompts.cleaning import TOO_LONG, clean
from catimage.data.prompts.identity import normalise
from catimage.errors import InputError


def test_a_prompt_is_normalised():
    assert clean("  a\tcafe\u0301 \n", "here") == normalise("a café") == "a café"


@pytest.mark.parametrize(
    ("text", "message"),
    [(" \t\n", "empty"), ("x" * TOO_LONG, "100,000 characters"), ("a \ud800", "surrogate")],
)
def test_empty_long_and_malformed_prompts_are_refused(text, message):
    with pytest.raises(InputError, match=f"^row 7: .*{message}"):
        clean(text, "row 7")


def test_the_length_limit_is_inclusive():
    assert clean("abc", "here", max_length=3) == "abc"
    with pytest.raises(InputError, match="4 characters, more than 3"):
        clean("abcd", "here", max_length=3)

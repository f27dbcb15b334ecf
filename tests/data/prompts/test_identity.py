import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.prompts.identity import folded, normalise, prompt_id, split_of, splits_of


@given(st.text(min_size=1).filter(lambda t: t.strip()))
def test_the_id_does_not_depend_on_white_space(text):
    assert prompt_id(text) == prompt_id(f"  {text}\n") == prompt_id(normalise(text))


def test_splits_are_80_10_10_percent():
    shares = pd.Series([split_of(prompt_id(f"prompt {i}")) for i in range(20_000)]).value_counts(
        normalize=True
    )
    assert shares.to_dict() == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1}, abs=0.01)
    assert split_of("abc") == split_of("abc")


def test_spellings_of_one_text_are_in_one_split_and_other_prompts_keep_their_split():
    texts = [f"a cat number {i}" for i in range(300)]
    splits_alone = [split_of(prompt_id(text)) for text in texts]
    assert splits_of(texts) == splits_alone
    splits = splits_of([*texts, *(f"A Cat, number {i}!" for i in range(0, 300, 2))])
    assert splits[:300:2] == splits[300:], "every other prompt has a second spelling"
    assert splits[1:300:2] == splits_alone[1::2]
    assert len(set(splits[300:])) == 3


@given(st.text(min_size=1).filter(lambda t: t.strip()))
def test_the_folded_text_ignores_white_space_case_and_punctuation(text):
    assert folded(text) == folded(f" {text}\n")
    assert folded(f"a {text}") == folded(f"A, {text}!") and folded(text).strip()


def test_symbols_with_a_meaning_are_kept():
    assert folded("A cat, 3/4 view!") == folded("a cat 3 4 View")
    assert (
        folded("🦊 🎭") != folded("🦊")
        and folded("c+") != folded("c")
        and folded("...") != folded("?!")
    )

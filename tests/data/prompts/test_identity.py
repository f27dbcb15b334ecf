import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.prompts.identity import (
    folded,
    normalise,
    prompt_id,
    required_splits,
    split_of,
    splits_of,
)

TEXTS = st.text(min_size=1).filter(lambda t: t.strip())
SHARES = st.floats(0, 0.5)


@given(TEXTS)
def test_the_id_does_not_depend_on_white_space(text):
    assert prompt_id(text) == prompt_id(f"  {text}\n") == prompt_id(normalise(text))


@pytest.mark.parametrize(
    ("gate_share", "expected"),
    [
        (0.1, {"train": 0.7, "gate": 0.1, "val": 0.1, "test": 0.1}),
        (0.0, {"train": 0.8, "val": 0.1, "test": 0.1}),
        (0.5, {"train": 0.3, "gate": 0.5, "val": 0.1, "test": 0.1}),
    ],
)
def test_the_splits_have_the_stated_shares(gate_share, expected):
    splits = pd.Series(splits_of([f"prompt {i}" for i in range(20_000)], gate_share))
    assert splits.value_counts(normalize=True).to_dict() == pytest.approx(expected, abs=0.01)
    assert set(splits) == set(required_splits(gate_share)) == set(expected)


@given(st.lists(TEXTS), st.lists(TEXTS), SHARES)
def test_no_prompt_changes_its_split_when_prompts_are_added(texts, added, share):
    variants = [text.upper() for text in texts]
    splits = splits_of([*texts, *added, *variants], share)
    assert splits[: len(texts)] == splits_of(texts, share)
    assert splits == [split_of(text, share) for text in [*texts, *added, *variants]]


def test_a_prompt_stays_in_its_split_when_another_spelling_is_added():
    """Punctuation decided on the split of a text that had no other spelling."""
    for i in range(200):
        alone = splits_of([f"A Cat, number {i}!"], 0.1)
        assert splits_of([f"A Cat, number {i}!", f"a cat number {i}"], 0.1) == alone * 2


@given(st.text("abcXYZ äÖ.,!?-'", min_size=1).filter(lambda t: t.strip()), SHARES)
def test_spellings_of_one_text_are_in_one_split(text, share):
    spellings = [text, folded(text), f" {text}\n", text.replace(" ", "\t")]
    if any(letter.isalpha() for letter in text):  # punctuation alone has no other spelling
        spellings += [text.upper(), text.lower(), f"{text}!"]
    assert len({split_of(spelling, share) for spelling in spellings}) == 1


@given(TEXTS, SHARES)
def test_the_gate_is_taken_from_train_so_that_val_and_test_do_not_depend_on_its_share(text, share):
    without, split = split_of(text, 0), split_of(text, share)
    assert split == without or (without, split) == ("train", "gate")


@given(TEXTS)
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

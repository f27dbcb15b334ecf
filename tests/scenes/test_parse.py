from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.scenes.grammar import SCENE_KINDS, sample_scene
from catimage.scenes.parse import parse


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SCENE_KINDS))
def test_the_parsed_caption_of_a_scene_is_the_scene_without_a_kind(seed, kind):
    scene = sample_scene(np.random.default_rng(seed), kind)
    assert parse(scene.caption()) == replace(scene, kind="")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a photo of a cat",
        "a red moon",
        "a red moon on a plain mauve background",
        "rings on a plain red background",
    ],
)
def test_texts_outside_the_grammar_have_no_scene(text):
    assert parse(text) is None


def test_the_parser_ignores_case_and_repeated_spaces():
    assert parse(" An  empty WHITE wall") == parse("an empty white wall") is not None

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.scenes.grammar import SCENE_KINDS, draw_scene
from catimage.scenes.parse import parse


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SCENE_KINDS))
def test_parsing_is_the_inverse_of_the_caption(seed, kind):
    scene = draw_scene(np.random.default_rng(seed), kind)
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
def test_other_texts_have_no_scene(text):
    assert parse(text) is None


def test_case_and_spaces_do_not_matter():
    assert parse(" An  empty WHITE wall") == parse("an empty white wall") is not None

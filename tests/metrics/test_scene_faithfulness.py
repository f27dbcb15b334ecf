import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.errors import InputError
from catimage.metrics.scene_faithfulness import SceneFaithfulness, faithfulness
from catimage.scenes.grammar import Background, Group, Scene
from catimage.scenes.render import render
from catimage_tiny.data import held_out_scenes

GREY = Background("plain", "grey")


def _scene(*groups: Group, background: Background = GREY) -> Scene:
    return Scene("", background, groups)


RINGS = Group(3, "", "", "red", "ring")
LEFT = Group(1, "large", "", "red", "square", "on the left")
SCENE_PAIRS = {
    "number": (_scene(RINGS), _scene(Group(2, "", "", "red", "ring"))),
    "colour": (_scene(RINGS), _scene(Group(3, "", "", "blue", "ring"))),
    "shape": (_scene(RINGS), _scene(Group(3, "", "", "red", "square"))),
    "size": (_scene(RINGS), _scene(Group(3, "large", "", "red", "ring"))),
    "texture": (
        _scene(Group(1, "large", "", "red", "square")),
        _scene(Group(1, "large", "striped", "red", "square")),
    ),
    "position": (_scene(LEFT), _scene(Group(1, "large", "", "red", "square", "on the right"))),
    "background": (_scene(RINGS), _scene(RINGS, background=Background("plain", "green"))),
    "direction": (
        _scene(background=Background("half", "red", "blue", "side by side")),
        _scene(background=Background("half", "blue", "red", "side by side")),
    ),
}
"""By the property in which they differ, the scene of an image and another scene."""


@pytest.mark.parametrize(("own", "other"), SCENE_PAIRS.values(), ids=SCENE_PAIRS)
def test_an_image_scores_higher_for_its_own_scene_than_for_another(own, other):
    for seed in range(5):
        image = render(own, np.random.default_rng(seed))
        assert faithfulness(image, own) > 0.93
        assert faithfulness(image, other) < faithfulness(image, own) - 0.05


def test_rendered_images_score_high_for_their_captions_and_low_for_other_captions():
    scenes, metric = held_out_scenes(40, seed=3), SceneFaithfulness()
    scores = metric.score(scenes.images, scenes.captions)
    other_scores = metric.score(np.roll(scenes.images, 1, axis=0), scenes.captions)
    assert [
        scores[scenes.scene_kinds == kind].mean() > minimum
        for kind, minimum in (("simple", 0.98), ("middling", 0.93), ("crowded", 0.85))
    ] == [True] * 3
    assert other_scores.mean() < 0.3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_noise_lowers_the_score_and_scores_lie_in_the_range(seed):
    rng = np.random.default_rng(seed)
    image = render(_scene(RINGS), rng)
    noisy = np.clip(image + rng.normal(0, 90, image.shape), 0, 255).astype(np.uint8)
    clean_score, noisy_score = (faithfulness(i, _scene(RINGS)) for i in (image, noisy))
    assert 0 <= noisy_score < clean_score <= 1


def test_an_image_of_one_colour_scores_0_for_objects():
    assert faithfulness(np.zeros((64, 64, 3), np.uint8), _scene(RINGS)) == 0
    assert faithfulness(np.full((64, 64, 3), (140, 140, 145), np.uint8), _scene(RINGS)) == 0.5


def test_prompts_without_a_scene_and_images_of_another_size_are_refused():
    metric = SceneFaithfulness()
    with pytest.raises(
        InputError,
        match=r"label\.metrics: .* captions of the scene grammar, and 'a cat' is not one\. Remove",
    ):
        metric.score(np.zeros((1, 64, 64, 3), np.uint8), ["a cat"])
    with pytest.raises(InputError, match="needs images of 64x64 pixels, not of 32x32"):
        metric.score(np.zeros((1, 32, 32, 3), np.uint8), ["an empty red wall"])

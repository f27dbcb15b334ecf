import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.scenes.grammar import SCENE_KINDS, Background, Group, Scene, neighbour, sample_scene
from catimage.scenes.render import SIZE, render
from catimage.scenes.vocabulary import COLOURS, PATTERNS, VARIANTS

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from(SCENE_KINDS))
def test_scenes_and_images_are_reproducible(seed, kind):
    scene = sample_scene(np.random.default_rng(seed), kind)
    image = render(scene, np.random.default_rng(seed))
    assert scene == sample_scene(np.random.default_rng(seed), kind) and scene.kind == kind
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
    assert (image == render(scene, np.random.default_rng(seed))).all()
    assert "  " not in scene.caption() and scene.caption() == scene.caption().strip()


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_a_neighbour_keeps_kind_and_background(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    similar = neighbour(scene, rng)
    assert similar.kind == scene.kind
    if scene.groups:
        assert similar.background == scene.background


def test_captions_have_articles_plurals_and_number_words():
    background = Background("plain", "grey")
    scene = Scene(
        "middling",
        background,
        (Group(3, "small", "", "red", "ring"), Group(1, "large", "", "blue", "square")),
    )
    assert (
        scene.caption()
        == "three small red rings and a large blue square on a plain grey background"
    )
    assert Scene("simple", Background("plain", "white")).caption() == "an empty white wall"
    assert Group(1, "", "", "orange", "cross").caption() == "an orange cross"
    assert Group(9, "", "", "red", "cross").caption() == "many red crosses"


@pytest.mark.parametrize("colour", COLOURS)
def test_an_empty_wall_has_its_colour(colour):
    image = render(Scene("simple", Background("plain", colour)), np.random.default_rng(0))
    assert (image == np.array(COLOURS[colour])).all()


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_pattern_has_two_colours_and_variants_that_differ(kind):
    images = [
        render(
            Scene("patterned", Background(kind, "black", "white", variant)),
            np.random.default_rng(0),
        ).astype(int)
        for variant in VARIANTS[kind]
    ]
    for image in images:
        dark, light = (
            np.abs(image - np.array(COLOURS[name])).sum(2) < 40 for name in ("black", "white")
        )
        assert 0.2 < dark.mean() < 0.8 and (dark | light).mean() > 0.5
    assert np.abs(images[0] - images[1]).mean() > 40


def test_an_object_has_the_position_of_the_caption():
    scene = Scene(
        "simple",
        Background("plain", "white"),
        (Group(1, "", "", "red", "circle", "in the top left corner"),),
    )
    image = render(scene, np.random.default_rng(0)).astype(int)
    red = (abs(image - np.array(COLOURS["red"])).sum(2) < 30).nonzero()
    assert (
        len(red[0]) > 100
        and abs(red[0].mean() - 0.24 * SIZE) < 3
        and abs(red[1].mean() - 0.24 * SIZE) < 3
    )


def test_an_image_has_the_number_of_objects_of_the_caption():
    from scipy.ndimage import label

    scene = Scene(
        "middling", Background("plain", "white"), (Group(4, "small", "", "red", "circle"),)
    )
    for seed in range(10):
        image = render(scene, np.random.default_rng(seed)).astype(int)
        assert label(abs(image - np.array(COLOURS["red"])).sum(2) < 60)[1] == 4


def test_crowded_scenes_have_more_edges_than_middling_and_simple_scenes():
    rng = np.random.default_rng(0)
    edges = {
        kind: np.mean(
            [
                abs(np.diff(render(sample_scene(rng, kind), rng).astype(int), axis=1)).mean()
                for _ in range(40)
            ]
        )
        for kind in SCENE_KINDS
    }
    assert edges["crowded"] > 1.5 * edges["middling"] and edges["crowded"] > 3 * edges["simple"]


def test_most_neighbours_have_another_caption():
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(300)]
    assert np.mean([neighbour(s, rng).caption() != s.caption() for s in scenes]) > 0.95

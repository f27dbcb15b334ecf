import numpy as np
import pytest

from catimage.tiny.report import held_out, split_by_seed


def test_noise_alone_makes_choosing_a_prompt_worthless():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 4, 2)) + np.array([0, 0, 0, 0.5])[None, :, None]
    own, fixed, error = split_by_seed(scores, np.zeros(4), 0.0)
    assert own < fixed and fixed == pytest.approx(0.5, abs=0.05) and error < 0.05


def test_a_difference_between_prompts_makes_it_worth_its_size():
    truth = np.where(np.arange(1000)[:, None] % 2, [1.0, 0.0], [0.0, 1.0])
    own, fixed, _ = split_by_seed(np.repeat(truth[:, :, None], 2, axis=2), np.zeros(2), 0.0)
    assert (own, fixed) == (1.0, 0.5)


def test_the_price_of_cost_enters():
    scores = np.ones((10, 2, 2)) * np.array([1.0, 2.0])[None, :, None]
    assert split_by_seed(scores, np.array([0.0, 10.0]), 1.0)[:2] == (1.0, 1.0)


def test_held_out_scenes_are_distinct_and_balanced():
    kinds, captions, images = held_out(5, seed=1)
    assert len(set(captions)) == 15 == len(images) and {kinds.count(k) for k in set(kinds)} == {5}

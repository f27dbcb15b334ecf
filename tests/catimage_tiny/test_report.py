from pathlib import Path

import numpy as np
import pytest

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage_tiny.grid import grid
from catimage_tiny.report import generate_all, held_out, split_by_seed


@pytest.mark.parametrize("seeds", [2, 4])
def test_noise_alone_makes_choosing_a_prompt_worthless(seeds: int):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 4, seeds)) + np.array([0, 0, 0, 0.5])[None, :, None]
    made = split_by_seed(scores, np.zeros(4), 0.0)
    assert (
        made.chosen < made.fixed
        and made.fixed == pytest.approx(0.5, abs=0.05)
        and made.error < 0.05
    )


def test_a_difference_between_prompts_makes_it_worth_its_size():
    truth = np.where(np.arange(1000)[:, None] % 2, [1.0, 0.0], [0.0, 1.0])
    made = split_by_seed(np.repeat(truth[:, :, None], 4, axis=2), np.zeros(2), 0.0)
    assert (made.chosen, made.fixed) == (1.0, 0.5)


def test_the_price_of_cost_enters():
    scores = np.ones((10, 2, 2)) * np.array([1.0, 2.0])[None, :, None]
    made = split_by_seed(scores, np.array([0.0, 10.0]), 1.0)
    assert (made.chosen, made.fixed) == (1.0, 1.0)


def test_held_out_scenes_are_distinct_and_balanced():
    held = held_out(5, seed=1)
    assert len(set(held.captions)) == 20 == len(held.images)
    assert set(np.unique(held.kinds, return_counts=True)[1]) == {5}


def test_every_candidate_makes_every_prompt_and_seed(miniature_pool: Path):
    pool = load_pool(str(miniature_pool))
    images, seconds = generate_all(pool, ["a red ring", "a blue star"], seeds=2, batch=2)
    assert images.shape == (len(pool.candidates), 2, 2, 64, 64, 3) and (seconds > 0).all()
    apart = (
        kind_of(pool.generators["mini"], pool.folder).load(DeviceMemory())
        .generate(["a red ring", "a blue star"], pool.candidates[1], [1, 1])
    )
    assert (images[1, 1] == apart).all()


def test_the_grid_has_a_row_a_prompt_and_a_column_a_candidate():
    held = held_out(3, seed=2)
    images = np.arange(2, dtype=np.uint8)[:, None, None, None, None] * np.ones(
        (12, 64, 64, 3), np.uint8
    )
    made = grid(held.kinds, images, held.images, ["tiny-one", "tiny-two"], each=2)
    assert made.shape[1:] == (3 * 64, 3)
    cells = made[-8 * 64 :].reshape(8, 64, 3, 64, 3).transpose(0, 2, 1, 3, 4)
    assert (cells[:, 0] == 0).all() and (cells[:, 1] == 1).all()
    assert (cells[0, 2] == held.images[0]).all() and (cells[2, 2] == held.images[3]).all()

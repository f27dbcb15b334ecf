from pathlib import Path

import numpy as np
import pytest

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage_tiny.data import held_out_scenes
from catimage_tiny.report import (
    gain_table,
    generate_all,
    image_grid,
    quality_table,
    retrieval,
    split_by_seed,
)


@pytest.mark.parametrize("seeds", [2, 4])
def test_choosing_per_prompt_has_no_gain_if_scores_differ_by_noise_only(seeds: int):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 4, seeds)) + np.array([0, 0, 0, 0.5])[None, :, None]
    result = split_by_seed(scores, np.zeros(4), 0.0)
    assert result.per_prompt < result.fixed and result.standard_error < 0.05
    assert result.fixed == pytest.approx(0.5, abs=0.05)


def test_the_gain_equals_the_difference_between_prompts():
    quality = np.where(np.arange(1000)[:, None] % 2, [1.0, 0.0], [0.0, 1.0])
    scores = np.repeat(quality[:, :, None], 4, axis=2)
    result = split_by_seed(scores, np.zeros(2), 0.0)
    assert (result.per_prompt, result.fixed) == (1.0, 0.5)
    assert gain_table(scores, np.zeros(2))["gain"].tolist() == pytest.approx([0.5] * 5)


def test_price_times_cost_is_subtracted_from_the_scores():
    scores = np.ones((10, 2, 2)) * np.array([1.0, 2.0])[None, :, None]
    result = split_by_seed(scores, np.array([0.0, 10.0]), 1.0)
    assert (result.per_prompt, result.fixed) == (1.0, 1.0)


def test_held_out_scenes_have_distinct_captions_and_balanced_kinds():
    scenes = held_out_scenes(5, seed=1)
    assert len(set(scenes.captions)) == 20 == len(scenes.images)
    assert set(np.unique(scenes.scene_kinds, return_counts=True)[1]) == {5}


def test_every_candidate_generates_images_for_every_prompt_and_seed(miniature_pool: Path):
    pool, prompts = load_pool(str(miniature_pool)), ["a red ring", "a blue star"]
    images, seconds = generate_all(pool, prompts, seeds=2, batch_size=2)
    assert images.shape == (len(pool.candidates), 2, 2, 64, 64, 3) and (seconds > 0).all()
    generator = GeneratorCache(pool).get("mini")
    assert (images[1, 1] == generator.generate(prompts, pool.candidates[1], [1, 1])).all()


def test_quality_by_kind_is_the_mean_over_prompts_and_seeds():
    scenes = held_out_scenes(2, seed=2)
    scores = np.arange(8 * 3 * 2, dtype=float).reshape(8, 3, 2)
    table = quality_table(scenes, scores, ["a", "b", "c"])
    assert table.loc["b", "simple"] == scores[:2, 1].mean()
    assert table.loc["c", "all"] == scores[:, 2].mean()


def test_retrieval_is_the_share_of_images_whose_caption_scores_best():
    class Metric:
        """Scores 1 for the first four images with their captions, and 0 for all others."""

        def score(self, images, captions):
            matches = [(images[0] == image).all() for image in scenes.images[:4]]
            return np.array([*matches, *np.zeros(len(captions) - 4)], float)

    scenes = held_out_scenes(2, seed=2)
    assert retrieval(Metric(), scenes) == 4 / 8


def test_the_grid_has_a_row_per_prompt_and_a_column_per_candidate():
    scenes = held_out_scenes(3, seed=2)
    ones = np.ones((12, 64, 64, 3), np.uint8)
    images = np.arange(2, dtype=np.uint8)[:, None, None, None, None] * ones
    grid = image_grid(scenes, images, ["tiny-one", "tiny-two"], per_kind=2)
    assert grid.shape[1:] == (3 * 64, 3)
    cells = grid[-8 * 64 :].reshape(8, 64, 3, 64, 3).transpose(0, 2, 1, 3, 4)
    assert (cells[:, 0] == 0).all() and (cells[:, 1] == 1).all()
    assert (cells[0, 2] == scenes.images[0]).all() and (cells[2, 2] == scenes.images[3]).all()

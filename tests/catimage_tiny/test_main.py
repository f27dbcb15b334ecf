"""The command line trains every part, and a pool with the weights generates images."""

import json
import shutil

import numpy as np
import pytest

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import PACKAGED, load_pool
from catimage_tiny.__main__ import main
from catimage_tiny.recipe import PARTS


def test_a_pool_with_the_trained_weights_generates_images(trained_pool, tmp_path):
    shutil.copytree(trained_pool.out, tmp_path / "tiny")
    shutil.copy(PACKAGED / "tiny.yaml", tmp_path / "tiny.yaml")
    cache = GeneratorCache(load_pool(str(tmp_path / "tiny.yaml")), "cpu")
    cache.prepare()
    for name in cache.names:
        candidate = cache.pool.candidates_of(name)[0]
        images = cache.get(name).generate(["a red moon"], candidate, [0])
        assert images.shape == (1, 64, 64, 3) and images.dtype == np.uint8, name


def test_trained_weights_have_the_same_files_as_the_packaged_weights(trained_pool):
    packaged = PACKAGED / "tiny"
    names = {f.relative_to(packaged) for f in packaged.rglob("*") if f.is_file()}
    assert {
        f.relative_to(trained_pool.out) for f in trained_pool.out.rglob("*") if f.is_file()
    } == names


def test_configuration_files_do_not_contain_the_path_of_the_build_folder(trained_pool):
    for file in trained_pool.out.rglob("*.json"):
        assert str(trained_pool.trained_in) not in file.read_text(), file


def test_the_recipe_is_written_to_the_folder_of_the_weights(trained_pool):
    recipe = json.loads((trained_pool.out / "recipe.json").read_text())
    assert [row["part"] for row in recipe["parts"]] == list(PARTS)
    assert recipe["optimizer"] == "AdamW" and recipe["device"] == "CPU"
    assert recipe["scenes"] == {"scenes": 64, "ordinary": 64, "patterned": 64}
    unet = next(row for row in recipe["parts"] if row["part"] == "unet")
    assert (unet["updates"], unet["batch_size"], unet["learning_rate"]) == (11, 4, 2e-3)
    assert 0 < unet["loss"] < 10


def test_the_packaged_recipe_equals_the_default_settings():
    recipe = json.loads((PACKAGED / "tiny" / "recipe.json").read_text())
    for row in recipe["parts"]:
        settings = PARTS[row["part"]]
        assert row["updates"] == settings.updates and row["batch_size"] == settings.batch_size
        assert row["learning_rate"] == settings.learning_rate
        assert (row["averaging"], row["weight_decay"]) == (
            settings.averaging,
            settings.weight_decay,
        )
        assert tuple(row["betas"]) == settings.betas
    assert recipe["scenes"] == {"scenes": 40_000, "ordinary": 89_984, "patterned": 24_000}


def test_finished_parts_are_not_trained_again(trained_pool, capsys):
    record = (trained_pool.build / "unet.record.json").read_bytes()
    main(trained_pool.arguments)
    assert capsys.readouterr().out.count("already trained") == len(PARTS)
    assert (trained_pool.build / "unet.record.json").read_bytes() == record


def test_a_build_folder_of_another_recipe_is_an_error(trained_pool):
    with pytest.raises(SystemExit, match="build: the folder was created with another recipe"):
        main([*trained_pool.arguments, "--scale", "0.002"])

import numpy as np
import pytest
import yaml

from catimage.commands import add_candidate as adding
from catimage.commands.add_candidate import Asked
from catimage.commands.candidate_data import of_the_pool
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table, write_table
from catimage.data.shards.manifest import read_manifest, write_manifest
from catimage.data.shards.store import read_keys
from catimage.errors import InputError
from catimage.params import load_params
from catimage.router import Router
from catimage.stages import calibrate, generate, label, train
from catimage.workspace import Workspace
from tests.miniature import pool_tree

COUNT = 20


def prompts_of(n):
    colours, shapes = ["red", "blue", "green", "white"], ["ring", "square", "disc", "cross"]
    return [f"a {colours[i % 4]} {shapes[i // 4 % 4]} on a grey wall {i}" for i in range(n)]


def save_pool(workspace, miniature_pool, steps):
    workspace.pools.mkdir(exist_ok=True)
    (workspace.pools / "mine.yaml").write_text(
        yaml.safe_dump(pool_tree(str(miniature_pool.parent / "sd"), steps))
    )


@pytest.fixture(scope="module")
def grown(miniature_pool, tmp_path_factory):
    """A workspace that routes between one and two steps, whose pool has four steps since."""
    import pandas as pd

    from catimage.data.prompts.identity import prompt_id, split_of

    workspace = Workspace(tmp_path_factory.mktemp("grown"))
    rows = [(prompt_id(p), p, "test", split_of(prompt_id(p))) for p in prompts_of(48)]
    write_table(pd.DataFrame(rows, columns=PROMPTS.names), workspace.prompts, PROMPTS)
    save_pool(workspace, miniature_pool, (1, 2))
    tree = {
        "pool": "mine",
        "encoder": {"model": f"local-dir:{miniature_pool.parent / 'clip'}"},
        "metric": "sharpness",
        "budget": "80%",
    }
    tree |= {
        "generate": {"seeds": [0], "batch": 8, "shard_images": 16},
        "label": {"metrics": ["sharpness"]},
    }
    tree |= {"train": {"estimators": ["ridge"], "folds": 3}}
    workspace.params.write_text(yaml.safe_dump(tree))
    params = load_params(workspace.params)
    generate.run(workspace, params)
    label.run(workspace, params)
    workspace.reports.mkdir()
    (workspace.reports / "validation.json").write_text('{"success": true}')
    train.run(workspace, params)
    calibrate.run(workspace, params)
    save_pool(workspace, miniature_pool, (1, 2, 4))
    return workspace


def test_a_candidate_that_the_pool_lacks(grown):
    with pytest.raises(
        InputError, match=r"mine.yaml: no candidate is called 'mini-5' \(did you mean 'mini-"
    ):
        adding.run(grown, load_params(grown.params), Asked("mini-5", COUNT))


def test_files_are_not_for_a_pool(grown, tmp_path):
    with pytest.raises(
        InputError, match="--scores and --costs are for a workspace of imported scores"
    ):
        adding.run(
            grown, load_params(grown.params), Asked("mini-4", COUNT, tmp_path / "scores.csv")
        )


def test_only_these_prompts_images_are_made_and_scored_and_once(grown):
    params = load_params(grown.params)
    some = read_table(grown.prompts, PROMPTS, "sample").iloc[[3, 5, 8]]
    manifest = read_manifest(grown.images)
    profile = of_the_pool(grown, params, "mini-4", some)
    keys = [
        tuple(k)
        for e in profile.entries
        for k in read_keys(grown.images, e.shard).itertuples(index=False)
    ]
    assert sorted(keys) == sorted((i, "mini-4", 0) for i in some["prompt_id"])
    assert sorted(profile.scores["prompt_id"]) == sorted(some["prompt_id"])
    assert set(profile.scores["metric"]) == {"sharpness"}
    assert profile.costs["candidate"].tolist() == ["mini-4"]
    assert read_manifest(grown.images) == manifest
    times = {p: p.stat().st_mtime_ns for p in grown.images.glob("*.parquet")}
    assert of_the_pool(grown, params, "mini-4", some).scores.equals(profile.scores)
    assert {p: p.stat().st_mtime_ns for p in grown.images.glob("*.parquet")} == times


def test_the_router_has_it_and_the_images_are_live(grown):
    before = Router.load(grown.router)
    manifest = read_manifest(grown.images)
    adding.run(grown, load_params(grown.params), Asked("mini-4", COUNT))
    router, params = Router.load(grown.router), load_params(grown.params)
    assert router.candidates == ["mini-1", "mini-2", "mini-4"]
    assert np.array_equal(router.predict(prompts_of(5))[:, :2], before.predict(prompts_of(5)))
    added = [e for e in read_manifest(grown.images) if e.candidate == "mini-4"]
    assert sum(e.images for e in added) == COUNT
    assert len(read_table(grown.scores, SCORES, "label").query("candidate == 'mini-4'")) == COUNT
    assert len(read_table(grown.candidates, CANDIDATES, "generate")) == 3
    assert params.validation.complete_labels is False
    write_manifest(grown.images, manifest)

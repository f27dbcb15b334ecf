"""``add-candidate`` in a workspace with a pool."""

import numpy as np
import pytest
import yaml

from catimage.commands import add_candidate
from catimage.commands.candidate_data import generate_candidate
from catimage.commands.candidate_request import CandidateRequest
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table, write_table
from catimage.data.shards.manifest import read_manifest, write_manifest
from catimage.data.shards.store import read_keys
from catimage.errors import InputError
from catimage.params import load_params
from catimage.router import Router
from catimage.stages import calibrate, generate, label, train
from catimage.workspace import Workspace
from tests.miniature import pool_tree
from tests.noise_generator import generate_noise
from tests.provenance import mark_validated
from tests.valid_tables import distinct_embeddings

COUNT = 20


def prompts_of(n):
    colours, shapes = ["red", "blue", "green", "white"], ["ring", "square", "disc", "cross"]
    return [f"a {colours[i % 4]} {shapes[i // 4 % 4]} on a grey wall {i}" for i in range(n)]


def save_pool(workspace, miniature_pool, steps):
    """Write a pool with one candidate for each number of steps."""
    workspace.pools.mkdir(exist_ok=True)
    (workspace.pools / "mine.yaml").write_text(
        yaml.safe_dump(pool_tree(str(miniature_pool.parent / "sd"), steps))
    )


@pytest.fixture(scope="module")
def workspace(miniature_pool, tmp_path_factory):
    """A workspace whose router has candidates of 1 and 2 steps, and whose pool has 4 steps too."""
    import pandas as pd

    from catimage.data.prompts.identity import prompt_id, splits_of

    workspace = Workspace(tmp_path_factory.mktemp("extended"))
    texts = prompts_of(48)
    splits = splits_of(texts, 0.1)
    rows = [(prompt_id(p), p, "test", s) for p, s in zip(texts, splits, strict=True)]
    write_table(pd.DataFrame(rows, columns=PROMPTS.names), workspace.prompts, PROMPTS)
    save_pool(workspace, miniature_pool, (1, 2))
    tree = {
        "pool": "mine",
        "encoder": {"model": f"local-dir:{miniature_pool.parent / 'clip'}"},
        "metric": "sharpness",
        "budget": "80%",
    }
    tree |= {
        "generate": {"seeds": [0], "batch_size": 8, "shard_images": 16},
        "label": {"metrics": ["sharpness"]},
    }
    tree |= {"train": {"estimators": ["ridge"], "folds": 3}}
    workspace.params.write_text(yaml.safe_dump(tree))
    params = load_params(workspace.params)
    embeddings = distinct_embeddings([row[0] for row in rows], params.encoder.name)
    embeddings.save(workspace.embeddings(params.encoder.name))
    with pytest.MonkeyPatch.context() as patch:
        generate_noise(patch)
        generate.run(workspace, params)
    label.run(workspace, params)
    mark_validated(workspace)
    train.run(workspace, params)
    calibrate.run(workspace, params)
    save_pool(workspace, miniature_pool, (1, 2, 4))
    return workspace


def test_candidate_that_is_not_in_the_pool_is_refused(workspace):
    with pytest.raises(
        InputError, match=r"mine.yaml: no candidate is called 'mini-5' \(did you mean 'mini-"
    ):
        add_candidate.run(
            workspace, load_params(workspace.params), CandidateRequest("mini-5", COUNT)
        )


def test_scores_file_is_refused_in_a_workspace_with_a_pool(workspace, tmp_path):
    with pytest.raises(
        InputError, match="--scores, --costs: only allowed in a workspace of imported scores"
    ):
        add_candidate.run(
            workspace,
            load_params(workspace.params),
            CandidateRequest("mini-4", COUNT, tmp_path / "scores.csv"),
        )


def test_images_are_generated_once_for_the_given_prompts(workspace):
    params = load_params(workspace.params)
    three_prompts = read_table(workspace.prompts, PROMPTS, "sample").iloc[[3, 5, 8]]
    manifest = read_manifest(workspace.images)
    data = generate_candidate(workspace, params, "mini-4", three_prompts)
    keys = [
        tuple(k)
        for e in data.entries
        for k in read_keys(workspace.images, e.shard).itertuples(index=False)
    ]
    assert sorted(keys) == sorted((i, "mini-4", 0) for i in three_prompts["prompt_id"])
    assert sorted(data.scores["prompt_id"]) == sorted(three_prompts["prompt_id"])
    assert set(data.scores["metric"]) == {"sharpness"}
    assert data.costs["candidate"].tolist() == ["mini-4"]
    assert read_manifest(workspace.images) == manifest
    times = {p: p.stat().st_mtime_ns for p in workspace.images.glob("*.parquet")}
    assert generate_candidate(workspace, params, "mini-4", three_prompts).scores.equals(data.scores)
    assert {p: p.stat().st_mtime_ns for p in workspace.images.glob("*.parquet")} == times


def test_candidate_is_in_the_router_and_the_manifest(workspace):
    before = Router.load(workspace.router)
    manifest = read_manifest(workspace.images)
    add_candidate.run(workspace, load_params(workspace.params), CandidateRequest("mini-4", COUNT))
    router, params = Router.load(workspace.router), load_params(workspace.params)
    assert router.candidates == ["mini-1", "mini-2", "mini-4"]
    predicted = router.predict(prompts_of(5))[:, :2]
    assert np.allclose(predicted, before.predict(prompts_of(5)), 0, 1e-6)
    added = [e for e in read_manifest(workspace.images) if e.candidate == "mini-4"]
    assert sum(e.images for e in added) == COUNT
    assert (
        len(read_table(workspace.scores, SCORES, "label").query("candidate == 'mini-4'")) == COUNT
    )
    assert len(read_table(workspace.candidates, CANDIDATES, "generate")) == 3
    assert params.validation.complete_labels is False
    write_manifest(workspace.images, manifest)

"""Truncated files of a workspace: one sentence with the path and the command that repairs it."""

import shutil

import numpy as np
import pyarrow as pa
import pytest

from catimage.data.dataset import Dataset
from catimage.data.schema import IMAGES, PROMPTS, read_table
from catimage.data.shards.images import first_images
from catimage.data.shards.manifest import ShardEntry, write_manifest
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import encode_image, write_shard
from catimage.encoders.embeddings import Embeddings
from catimage.encoders.loading import load_encoder
from catimage.errors import InputError
from catimage.params import EncoderParams, load_params
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.router import Router
from catimage.stages import calibrate, evaluate, train
from catimage.tracking.lineage import lineage_tags, read_metrics
from catimage.workspace import Workspace
from tests.provenance import record_inputs
from tests.trained_workspace import train_workspace
from tests.valid_tables import valid_tables

SETTINGS = {"confidence": 0.9, "risk_aversion": 0.5}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A workspace with every kind of file that the stages write and read."""
    workspace, params = train_workspace(
        tmp_path_factory.mktemp("complete"), calibrate=SETTINGS, evaluate={"bootstrap": 100}
    )
    write_shards(workspace)
    valid_tables()["embeddings"].save(workspace.embeddings(params.encoder.name))
    record_inputs(workspace)
    calibrate.run(workspace, params)
    evaluate.run(workspace, params)
    (workspace.root / "dist").mkdir()
    (workspace.dist / "bento.json").write_text('{"tag": "catimage:1", "router": ""}')
    return workspace


def write_shards(workspace):
    """Write a shard of one image, and the manifest."""
    workspace.images.mkdir(parents=True)
    plan = ShardPlan("mini-1", {"kind": "painted"}, 1, (("p", "a prompt"),), (0,), 1)
    row = ("p", "mini-1", 0, encode_image(np.zeros((4, 4, 3), np.uint8)), 0.1)
    table = pa.Table.from_pylist([dict(zip(IMAGES.names, row, strict=True))], schema=IMAGES)
    digest = write_shard(workspace.images, plan, table)
    write_manifest(workspace.images, [ShardEntry(plan.name, "mini-1", 1, digest)])


def read_tables(workspace):
    Dataset.read(workspace, "tflops")


def read_images(workspace):
    first_images(workspace.images, ["p"])


def read_embeddings(workspace):
    Embeddings.load(workspace.embeddings(load_params(workspace.params).encoder.name))


def run_train(workspace):
    train.run(workspace, load_params(workspace.params))


def run_calibrate(workspace):
    calibrate.run(workspace, load_params(workspace.params))


def load_router(workspace):
    Router.load(workspace.router)


READERS = {
    "data/prompts.parquet": (read_tables, "sample"),
    "data/candidates.parquet": (read_tables, "generate"),
    "data/scores.parquet": (read_tables, "label"),
    "data/images/": (read_images, "generate"),
    "data/embeddings/": (read_embeddings, "sample"),
    "reports/validation.json": (run_train, "validate"),
    "reports/metrics.json": (read_metrics, "evaluate"),
    "models/estimators/": (run_calibrate, "train"),
    "models/router/": (load_router, "calibrate"),
    "dist/bento.json": (lineage_tags, "package"),
}
"""By the beginning of a path, a function that reads the file, and the command that writes it."""
NOT_READ = (
    "reports/plots/",
    "reports/report.html",
    "reports/off_policy.json",
    "params.yaml",
    "pools/",
)
"""Outputs that are not read, and files that the user writes."""


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_every_truncated_file_is_reported_with_the_command_that_writes_it(complete, share):
    """An error of any library (skops, safetensors, pyarrow, json) becomes the same sentence."""
    suffixes = set()
    for path in sorted(p for p in complete.root.rglob("*") if p.is_file()):
        name = path.relative_to(complete.root).as_posix()
        if name.startswith(NOT_READ):
            continue
        ((read, command),) = [READERS[key] for key in READERS if name.startswith(key)]
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        try:
            with pytest.raises(InputError) as error:
                read(complete)
        finally:
            path.write_bytes(content)
        expected = f"{path}: the file is damaged. Run 'catimage {command}' again."
        assert str(error.value) == expected, name
        suffixes.add(path.suffix)
    assert suffixes == {".parquet", ".json", ".skops", ".safetensors"}


def test_a_folder_whose_name_looks_like_a_partition_adds_no_column(complete, tmp_path):
    """pyarrow adds the column ``run`` to tables in a folder ``run=1`` by default."""
    workspace = Workspace(shutil.copytree(complete.root, tmp_path / "run=1"))
    read_tables(workspace)
    run_calibrate(workspace)
    assert list(read_table(workspace.prompts, PROMPTS, "sample")) == PROMPTS.names
    assert Router.load(workspace.router).candidates == Router.load(complete.router).candidates


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_config.json"])
def test_truncated_weights_of_an_encoder_are_named(miniature_pool, tmp_path, name):
    folder = shutil.copytree(miniature_pool.parent / "clip", tmp_path / "clip")
    truncate(folder / name)
    with pytest.raises(InputError) as error:
        load_encoder(EncoderParams(model=f"local-dir:{folder}"))
    assert str(error.value) == f"{folder / name}: the file is damaged. Copy or download it again."


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "model_index.json"]
)
def test_truncated_weights_of_a_pipeline_are_named(miniature_pool, tmp_path, name):
    shutil.copytree(miniature_pool.parent, tmp_path / "pool")
    truncate(tmp_path / "pool" / "sd" / name)
    pool = load_pool(str(tmp_path / "pool" / "miniature.yaml"))
    with pytest.raises(InputError) as error:
        kind_of(pool.generators["mini"], pool.folder).load(DeviceMemory("cpu"))
    assert str(tmp_path / "pool" / "sd" / name) in str(error.value)
    assert "damaged" in str(error.value)


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

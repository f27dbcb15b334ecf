from itertools import product

import numpy as np
import pandas as pd
import pytest

from catimage.errors import InputError
from catimage.metrics import get_metric
from catimage.metrics.clip_score import ClipScore
from catimage.metrics.sharpness import Sharpness
from catimage.params import Params
from catimage.shards.lock import writing
from catimage.shards.manifest import read_manifest
from catimage.shards.store import decode_image, read_shard, shard_path
from catimage.stages import label
from catimage.tables import PROMPTS as PROMPTS_SCHEMA
from catimage.tables import SCORES, prompt_id, read_table, write_table
from catimage.workspace import Workspace
from tests.miniature import STEPS

PROMPTS = ["a red ring", "an empty white wall", "two large stars"]


@pytest.fixture
def labelled(made: tuple[Workspace, Params]) -> tuple[Workspace, Params]:
    label.run(*made)
    return made


def _scores(workspace: Workspace) -> pd.DataFrame:
    return read_table(workspace.scores, SCORES, "label")


def _counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts the images that each metric is asked to score from now on."""
    counts = {"clip_score": 0, "sharpness": 0}
    for cls in (ClipScore, Sharpness):

        def score(self: object, images: np.ndarray, prompts: list[str], cls: type = cls, real: object = cls.score) -> np.ndarray:
            counts[cls.name] += len(images)
            return real(self, images, prompts)  # type: ignore[operator]

        monkeypatch.setattr(cls, "score", score)
    return counts


def test_every_image_is_scored_by_every_metric_in_a_fixed_order(labelled: tuple[Workspace, Params]):
    workspace, params = labelled
    scores = _scores(workspace)
    ids, candidates = sorted(prompt_id(p) for p in PROMPTS), [f"mini-{n}" for n in STEPS]
    keys = list(scores[["metric", "candidate", "prompt_id", "seed"]].itertuples(index=False, name=None))
    assert keys == list(product(["clip_score", "sharpness"], candidates, ids, [0, 1]))
    metrics = {name: get_metric(name, params.encoder, "cpu") for name in ("clip_score", "sharpness")}
    texts = {prompt_id(p): p for p in PROMPTS}
    values = scores.set_index(["metric", "prompt_id", "candidate", "seed"])["value"]
    for entry in read_manifest(workspace.images):
        for row in read_shard(workspace.images, entry.shard)[0].to_pylist():
            for name, metric in metrics.items():
                alone = metric.score(decode_image(row["image"])[None], [texts[row["prompt_id"]]])[0]
                assert values[name, row["prompt_id"], row["candidate"], row["seed"]] == pytest.approx(alone, abs=1e-6)
    assert set(scores["version"]) == {m.version for m in metrics.values()}


def test_a_second_run_scores_nothing_and_writes_the_same(labelled: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch):
    workspace, params = labelled
    before = workspace.scores.read_bytes()
    counts = _counted(monkeypatch)
    label.run(workspace, params)
    assert counts == {"clip_score": 0, "sharpness": 0}
    assert workspace.scores.read_bytes() == before


def test_a_new_version_of_a_metric_relabels_itself_alone(labelled: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch):
    workspace, params = labelled
    files = len(list((workspace.root / "data" / ".labels").iterdir()))
    monkeypatch.setattr(Sharpness, "version", "2")
    counts = _counted(monkeypatch)
    label.run(workspace, params)
    assert counts == {"clip_score": 0, "sharpness": len(PROMPTS) * len(STEPS) * 2}
    scores = _scores(workspace)
    assert set(scores[scores["metric"] == "sharpness"]["version"]) == {"2"}
    assert len(list((workspace.root / "data" / ".labels").iterdir())) == files, "scores of the old version are collected"


def test_a_run_that_stops_half_way_continues(made: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch):
    workspace, params = made
    monkeypatch.setattr(label, "write_table", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        label.run(workspace, params)
    assert not workspace.scores.exists()
    monkeypatch.undo()
    kept = sorted((workspace.root / "data" / ".labels").iterdir())
    lost = sum(len(np.load(path)) for path in kept[:2])
    kept[0].unlink()
    kept[1].write_bytes(b"not whole")
    counts = _counted(monkeypatch)
    label.run(workspace, params)
    assert sum(counts.values()) == lost
    assert len(_scores(workspace)) == 2 * len(PROMPTS) * len(STEPS) * 2


def _set_prompts(workspace: Workspace, prompts: list[str]) -> None:
    rows = [(prompt_id(p), p, "test", "train") for p in prompts]
    write_table(pd.DataFrame(rows, columns=PROMPTS_SCHEMA.names), workspace.prompts, PROMPTS_SCHEMA)


def test_images_and_prompts_that_do_not_belong_together_are_refused(labelled: tuple[Workspace, Params]):
    workspace, params = labelled
    before = workspace.scores.read_bytes()
    _set_prompts(workspace, [*PROMPTS, "a blue moon", "a green moon"])
    with pytest.raises(InputError, match="2 of 5 prompts lack images: run 'catimage generate' first"):
        label.run(workspace, params)
    _set_prompts(workspace, PROMPTS[:1])
    with pytest.raises(InputError, match="images of 2 prompts that are no longer there: run 'catimage generate'"):
        label.run(workspace, params)
    assert workspace.scores.read_bytes() == before


def test_a_pool_with_a_new_candidate_is_refused(labelled: tuple[Workspace, Params]):
    workspace, params = labelled
    with pytest.raises(InputError, match="no images of the candidate 'tiny-turbo': run 'catimage generate' first"):
        label.run(workspace, params.model_copy(update={"pool": "tiny"}))


def test_missing_and_damaged_shards_say_what_to_run(made: tuple[Workspace, Params]):
    workspace, params = made
    path = shard_path(workspace.images, read_manifest(workspace.images)[0].shard)
    data = path.read_bytes()
    for spoiled in (data[:-7], data[:400] + bytes(100) + data[500:]):
        path.write_bytes(spoiled)
        with pytest.raises(InputError, match=r"damaged .*run 'catimage generate' again"):
            label.run(workspace, params)
    path.unlink()
    with pytest.raises(InputError, match=r"missing .*run 'catimage generate' again"):
        label.run(workspace, params)


def test_an_unknown_metric_and_a_second_writer(made: tuple[Workspace, Params]):
    workspace, params = made
    with pytest.raises(InputError, match=r"did you mean 'sharpness'"):
        label.run(workspace, params.model_copy(update={"label": params.label.model_copy(update={"metrics": ["sharpnes"]})}))
    with writing(workspace.scores), pytest.raises(InputError, match=r"scores\.parquet is being written by another process"):
        label.run(workspace, params)

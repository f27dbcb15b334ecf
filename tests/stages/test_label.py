from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import PROMPTS as PROMPTS_SCHEMA
from catimage.data.schema import SCORES, read_table, write_table
from catimage.data.shards.lock import write_lock
from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import decode_image, read_shard, shard_path
from catimage.errors import InputError
from catimage.metrics.clip_score import ClipScore
from catimage.metrics.metric import Metric, ReferenceMetric
from catimage.metrics.metric_code import metric_code
from catimage.metrics.registry import get_metric
from catimage.metrics.sharpness import Sharpness
from catimage.params import ImportParams, LabelParams, Params
from catimage.stages import label
from catimage.workspace import Workspace
from tests.miniature import STEPS

PROMPTS = ["a red ring", "an empty white wall", "two large stars"]


@pytest.fixture
def labelled(generated_copy: tuple[Workspace, Params]) -> tuple[Workspace, Params]:
    label.run(*generated_copy)
    return generated_copy


def _scores(workspace: Workspace) -> pd.DataFrame:
    return read_table(workspace.scores, SCORES, "label")


def _count_scored_images(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return a dictionary that counts the images that each metric scores after this call."""
    counts = {"clip_score": 0, "sharpness": 0}
    for cls in (ClipScore, Sharpness):

        def score(
            self: object,
            images: np.ndarray,
            prompts: list[str],
            cls: type = cls,
            original: object = cls.score,
        ) -> np.ndarray:
            counts[cls.name] += len(images)
            return original(self, images, prompts)  # type: ignore[operator]

        monkeypatch.setattr(cls, "score", score)
    return counts


def test_every_image_is_scored_by_every_metric_in_a_fixed_order(labelled: tuple[Workspace, Params]):
    workspace, params = labelled
    scores = _scores(workspace)
    ids, candidates = sorted(prompt_id(p) for p in PROMPTS), [f"mini-{n}" for n in STEPS]
    keys = list(
        scores[["metric", "candidate", "prompt_id", "seed"]].itertuples(index=False, name=None)
    )
    assert keys == list(product(["clip_score", "sharpness"], candidates, ids, [0, 1]))
    metrics = {
        name: get_metric(name, params.encoder, "cpu") for name in ("clip_score", "sharpness")
    }
    texts = {prompt_id(p): p for p in PROMPTS}
    values = scores.set_index(["metric", "prompt_id", "candidate", "seed"])["value"]
    for entry in read_manifest(workspace.images):
        for row in read_shard(workspace.images, entry.shard)[0].to_pylist():
            for name, metric in metrics.items():
                alone = metric.score(decode_image(row["image"])[None], [texts[row["prompt_id"]]])[0]
                assert values[
                    name, row["prompt_id"], row["candidate"], row["seed"]
                ] == pytest.approx(alone, abs=1e-6)
    assert set(scores["version"]) == {m.version for m in metrics.values()}


def test_a_second_run_scores_no_image_and_writes_the_same_file(
    labelled: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    workspace, params = labelled
    before = workspace.scores.read_bytes()
    counts = _count_scored_images(monkeypatch)
    label.run(workspace, params)
    assert counts == {"clip_score": 0, "sharpness": 0}
    assert workspace.scores.read_bytes() == before


def test_only_scores_by_a_metric_with_a_new_version_are_computed_again(
    labelled: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    workspace, params = labelled
    files = len(list((workspace.root / "data" / ".labels").iterdir()))
    monkeypatch.setattr(Sharpness, "version", "next")
    counts = _count_scored_images(monkeypatch)
    label.run(workspace, params)
    assert counts == {"clip_score": 0, "sharpness": len(PROMPTS) * len(STEPS) * 2}
    scores = _scores(workspace)
    assert set(scores[scores["metric"] == "sharpness"]["version"]) == {"next"}
    assert len(list((workspace.root / "data" / ".labels").iterdir())) == files, (
        "scores of the old version are deleted"
    )


def test_a_run_after_an_interruption_computes_only_missing_scores(
    generated_copy: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    workspace, params = generated_copy

    def raise_disk_full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(label, "write_frames", raise_disk_full)
    with pytest.raises(OSError, match="disk full"):
        label.run(workspace, params)
    assert not workspace.scores.exists()
    monkeypatch.undo()
    cached = sorted((workspace.root / "data" / ".labels").iterdir())
    lost_scores = sum(len(np.load(path)) for path in cached[:2])
    cached[0].unlink()
    cached[1].write_bytes(b"damaged")
    counts = _count_scored_images(monkeypatch)
    label.run(workspace, params)
    assert sum(counts.values()) == lost_scores
    assert len(_scores(workspace)) == 2 * len(PROMPTS) * len(STEPS) * 2


def _set_prompts(workspace: Workspace, prompts: list[str]) -> None:
    rows = [(prompt_id(p), p, "test", "train") for p in prompts]
    write_table(pd.DataFrame(rows, columns=PROMPTS_SCHEMA.names), workspace.prompts, PROMPTS_SCHEMA)


def test_images_of_other_prompts_are_refused(
    labelled: tuple[Workspace, Params],
):
    workspace, params = labelled
    before = workspace.scores.read_bytes()
    _set_prompts(workspace, [*PROMPTS, "a blue moon", "a green moon"])
    with pytest.raises(
        InputError, match=r"2 of 5 prompts lack images\. Run 'catimage generate' first"
    ):
        label.run(workspace, params)
    _set_prompts(workspace, PROMPTS[:1])
    with pytest.raises(
        InputError,
        match=r"2 prompts with images are not in the prompts table\. Run 'catimage generate'",
    ):
        label.run(workspace, params)
    assert workspace.scores.read_bytes() == before


def test_a_pool_with_a_new_candidate_is_refused(labelled: tuple[Workspace, Params]):
    workspace, params = labelled
    with pytest.raises(
        InputError, match=r"no images of the candidate 'tiny-turbo'\. Run 'catimage generate' first"
    ):
        label.run(workspace, params.model_copy(update={"pool": "tiny"}))


def test_missing_and_damaged_shards_are_refused(generated_copy: tuple[Workspace, Params]):
    workspace, params = generated_copy
    path = shard_path(workspace.images, read_manifest(workspace.images)[0].shard)
    data = path.read_bytes()
    for damaged in (data[:-7], data[:400] + bytes(100) + data[500:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged\. Run 'catimage generate' again"):
            label.run(workspace, params)
    path.unlink()
    with pytest.raises(InputError, match=r"not found\. Run 'catimage generate'"):
        label.run(workspace, params)


def test_an_unknown_metric_and_a_second_writer_are_refused(
    generated_copy: tuple[Workspace, Params],
):
    workspace, params = generated_copy
    with pytest.raises(InputError, match=r"did you mean 'sharpness'"):
        label.run(
            workspace,
            params.model_copy(
                update={"label": params.label.model_copy(update={"metrics": ["sharpnes"]})}
            ),
        )
    with (
        write_lock(workspace.scores),
        pytest.raises(InputError, match=r"scores\.parquet: another process is writing it"),
    ):
        label.run(workspace, params)


class Level(Metric):
    """The brightness of an image, NaN if it is higher than ``limit``; counts the scored images."""

    name = "level"
    range = (0.0, 1.0)
    limit: float = 1.0
    scored: int = 0

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        type(self).scored += len(images)
        levels: np.ndarray = images.mean((1, 2, 3)) / 255
        return np.where(levels > self.limit, np.nan, levels)


class Darkness(Level):
    """The same as :class:`Level`, but lower is better."""

    name = "darkness"
    higher_is_better = False


class Distance(ReferenceMetric):
    """The mean absolute difference of an image and its reference."""

    name = "distance"
    range = (0.0, 255.0)
    higher_is_better = False

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        distances: np.ndarray = np.abs(images.astype(float) - references).mean((1, 2, 3))
        return distances


@pytest.fixture
def with_test_metrics(
    generated_copy: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
) -> tuple[Workspace, Params]:
    """Return a generated workspace in which only the metrics of this module are registered."""
    metrics = {
        "level": f"{__name__}:Level",
        "darkness": f"{__name__}:Darkness",
        "distance": f"{__name__}:Distance",
    }
    monkeypatch.setattr("catimage.metrics.registry.METRICS", metrics)
    for cls in (Level, Darkness):
        monkeypatch.setattr(cls, "scored", 0)
    return generated_copy[0], _with_label_settings(generated_copy[1], metrics=["level"])


def _with_label_settings(params: Params, **settings: object) -> Params:
    """Return the parameters with changed keys of the section ``label``."""
    return params.model_copy(
        update={"label": LabelParams.model_validate({**params.label.model_dump(), **settings})}
    )


def _levels(workspace: Workspace) -> list[float]:
    """Return the brightness of all images, ascending."""
    shards = [
        read_shard(workspace.images, entry.shard)[0] for entry in read_manifest(workspace.images)
    ]
    return sorted(
        decode_image(image).mean() / 255
        for shard in shards
        for image in shard.column("image").to_pylist()
    )


N_IMAGES = len(PROMPTS) * len(STEPS) * 2


def test_adding_a_metric_does_not_repeat_the_scoring_by_other_metrics(
    with_test_metrics: tuple[Workspace, Params],
):
    workspace, params = with_test_metrics
    label.run(workspace, params)
    assert (Level.scored, Darkness.scored) == (N_IMAGES, 0)
    label.run(workspace, _with_label_settings(params, metrics=["level", "darkness"]))
    assert (Level.scored, Darkness.scored) == (N_IMAGES, N_IMAGES)
    assert len(_scores(workspace)) == 2 * N_IMAGES


def test_a_composite_is_computed_from_its_terms(
    with_test_metrics: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    workspace, params = with_test_metrics
    both = {
        "both": {
            "kind": "product",
            "terms": {"level": {"weight": 3}, "darkness": {"scale": [0.1, 0.9]}},
        }
    }
    params = _with_label_settings(params, metrics=["both", "level"], composites=both)
    label.run(workspace, params)
    scores = _scores(workspace)
    assert scores["metric"].value_counts().to_dict() == {
        "both": N_IMAGES,
        "level": N_IMAGES,
    }, "the table has no scores of terms that label.metrics does not list"
    table = scores.pivot(index=["prompt_id", "candidate", "seed"], columns="metric", values="value")
    darkness = 1 - ((table["level"] - 0.1) / 0.8).clip(0, 1)
    expected = table["level"] ** 0.75 * darkness**0.25
    assert table["both"].to_numpy() == pytest.approx(expected.to_numpy())
    (version,) = set(scores[scores["metric"] == "both"]["version"])
    monkeypatch.setattr(Darkness, "version", "2")
    label.run(workspace, params)
    assert (Level.scored, Darkness.scored) == (N_IMAGES, 2 * N_IMAGES)
    (changed,) = set(_scores(workspace).query("metric == 'both'")["version"])
    assert changed != version


def test_a_failing_metric_keeps_finished_scores(
    with_test_metrics: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    workspace, params = with_test_metrics
    label.run(workspace, params)
    before = workspace.scores.read_bytes()
    monkeypatch.setattr(Darkness, "limit", _levels(workspace)[-1] - 1e-9)
    with pytest.raises(
        InputError,
        match=(
            r"label.metrics: darkness, mini-\d of prompt [0-9a-f]{16} at seed [01]: the score nan"
            r" is outside"
        ),
    ):
        label.run(workspace, _with_label_settings(params, metrics=["level", "darkness"]))
    assert workspace.scores.read_bytes() == before
    monkeypatch.undo()
    kept = list((workspace.root / "data" / ".labels").glob("*-darkness-1-*.npy"))
    Darkness.scored = 0
    monkeypatch.setattr(
        "catimage.metrics.registry.METRICS",
        {"level": f"{__name__}:Level", "darkness": f"{__name__}:Darkness"},
    )
    label.run(workspace, _with_label_settings(params, metrics=["level", "darkness"]))
    scored, Darkness.scored = Darkness.scored, 0
    assert scored == N_IMAGES - sum(len(np.load(path)) for path in kept)


def test_skipped_images_are_scored_again_by_the_next_run(
    with_test_metrics: tuple[Workspace, Params],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    workspace, params = with_test_metrics
    composites = {"mean": {"terms": {"level": {}, "darkness": {}}}}
    params = _with_label_settings(
        params, metrics=["level", "darkness", "mean"], on_error="skip", composites=composites
    )
    with monkeypatch.context() as patch:
        patch.setattr(Darkness, "limit", _levels(workspace)[-3] + 1e-9)
        label.run(workspace, params)
    scores = _scores(workspace)
    assert scores["metric"].value_counts().to_dict() == {
        "level": N_IMAGES,
        "darkness": N_IMAGES - 2,
        "mean": N_IMAGES - 2,
    }
    assert not scores["value"].isna().any()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(
        line.startswith("label: no score: label.metrics: darkness, mini-") for line in lines
    )
    Level.scored = Darkness.scored = 0
    label.run(workspace, params)
    assert len(_scores(workspace)) == 3 * N_IMAGES
    assert Level.scored == 0 < Darkness.scored < N_IMAGES, (
        "only shards with missing scores are scored"
    )


def test_a_metric_that_fails_for_every_image_can_be_skipped(
    with_test_metrics: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    workspace, params = with_test_metrics
    monkeypatch.setattr(Darkness, "limit", -1.0)
    composites = {"mean": {"terms": {"level": {}, "darkness": {}}}}
    label.run(
        workspace,
        _with_label_settings(
            params, metrics=["level", "mean"], on_error="skip", composites=composites
        ),
    )
    assert set(_scores(workspace)["metric"]) == {"level"}


def _with_reference(workspace: Workspace, params: Params, reference: str) -> Params:
    """Return parameters with a pool that names a reference candidate."""
    tree = yaml.safe_load(Path(params.pool).read_text())
    tree["generators"]["mini"]["weights"] = str(Path(params.pool).parent / "sd")
    pool = workspace.root / "pool.yaml"
    pool.write_text(yaml.safe_dump({**tree, "metric_reference": {"mini": reference}}))
    return _with_label_settings(params, metrics=["distance"]).model_copy(update={"pool": str(pool)})


def test_an_image_is_compared_with_the_reference_of_the_same_prompt_and_seed(
    with_test_metrics: tuple[Workspace, Params],
):
    workspace, params = with_test_metrics
    with pytest.raises(
        InputError,
        match=(
            r"the pool 'miniature': no metric_reference for the candidate 'mini-.', and the metric"
            " 'distance' needs reference images"
        ),
    ):
        label.run(workspace, _with_label_settings(params, metrics=["distance"]))
    label.run(workspace, _with_reference(workspace, params, "mini-4"))
    values = _scores(workspace).set_index(["candidate", "prompt_id", "seed"])["value"]
    images = {}
    for entry in read_manifest(workspace.images):
        for row in read_shard(workspace.images, entry.shard)[0].to_pylist():
            images[row["candidate"], row["prompt_id"], row["seed"]] = decode_image(
                row["image"]
            ).astype(float)
    assert len(values) == N_IMAGES
    for key, value in values.items():
        assert value == pytest.approx(np.abs(images[key] - images["mini-4", key[1], key[2]]).mean())
    assert (values["mini-4"] == 0).all() and (values["mini-1"] > 0).all()


def test_another_reference_gives_other_scores(with_test_metrics: tuple[Workspace, Params]):
    workspace, params = with_test_metrics
    label.run(workspace, _with_reference(workspace, params, "mini-4"))
    label.run(workspace, _with_reference(workspace, params, "mini-1"))
    values = _scores(workspace).set_index(["candidate", "prompt_id", "seed"])["value"]
    assert (values["mini-1"] == 0).all() and (values["mini-4"] > 0).all()


def test_invalid_composites_are_refused_before_scoring(with_test_metrics: tuple[Workspace, Params]):
    workspace, params = with_test_metrics
    for composites, message in (
        (
            {"mean": {"terms": {"levl": {}}}},
            "label.composites.mean.terms: metric 'levl': unknown metric",
        ),
        (
            {"level": {"terms": {"darkness": {}}}},
            "label.composites.level: a metric has this name",
        ),
        (
            {"mean": {"terms": {"other": {}}}, "other": {"terms": {"level": {}}}},
            "label.composites.mean.terms.other: a composite cannot be a term",
        ),
    ):
        with pytest.raises(InputError, match=message):
            label.run(
                workspace,
                _with_label_settings(
                    params, metrics=[next(iter(composites))], composites=composites
                ),
            )
    assert Level.scored == 0 and not workspace.scores.exists()


def test_imported_scores_are_refused(with_test_metrics: tuple[Workspace, Params]):
    workspace, params = with_test_metrics
    with pytest.raises(InputError, match="the scores were imported"):
        label.run(workspace, params.model_copy(update={"imported": ImportParams()}))


def test_ssim_is_computed_again_for_another_reference(
    generated_copy: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    workspace, params = generated_copy
    images = {}
    for entry in read_manifest(workspace.images):
        for row in read_shard(workspace.images, entry.shard)[0].to_pylist():
            images[row["candidate"], row["prompt_id"], row["seed"]] = decode_image(row["image"])
    ssim, batches = get_metric("ssim", device="cpu"), []
    original = type(ssim).score
    monkeypatch.setattr(
        type(ssim),
        "score",
        lambda self, images, *more: (batches.append(len(images)), original(self, images, *more))[1],
    )
    for reference in ("mini-4", "mini-1"):
        batches.clear()
        for _ in range(2):
            label.run(
                workspace,
                _with_label_settings(
                    _with_reference(workspace, params, reference), metrics=["ssim"]
                ),
            )
        assert sum(batches) == N_IMAGES, "every image is scored once for each reference"
        values = _scores(workspace).set_index(["candidate", "prompt_id", "seed"])["value"]
        assert (values[reference] == 1).all()
        for (candidate, prompt, seed), value in values.items():
            pair = images[candidate, prompt, seed][None], images[reference, prompt, seed][None]
            assert value == pytest.approx(original(ssim, pair[0], ["x"], pair[1])[0], abs=1e-12)


def test_a_change_of_the_code_of_a_metric_scores_all_images_again_by_this_metric_only(
    with_test_metrics: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    workspace, params = with_test_metrics
    params = _with_label_settings(params, metrics=["level", "darkness"])
    label.run(workspace, params)
    before = workspace.scores.read_bytes()
    Darkness.scored = 0
    label.run(workspace, params)
    assert Darkness.scored == 0
    monkeypatch.setattr(
        "catimage.metrics.labelling.metric_code",
        lambda metric: "0" * 12 if metric.name == "darkness" else metric_code(metric),
    )
    label.run(workspace, params)
    scored, Darkness.scored = Darkness.scored, 0
    assert scored == N_IMAGES
    assert workspace.scores.read_bytes() == before

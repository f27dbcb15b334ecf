from __future__ import annotations

from pathlib import Path

import pytest

from catimage.errors import InputError
from catimage.tracking.lineage import (
    flatten,
    lineage_tags,
    read_metrics,
    run_metrics,
    run_params,
)
from catimage.workspace import Workspace


def test_nested_keys_are_joined_with_dots_and_none_values_are_left_out() -> None:
    flat = flatten({"a": {"b": 1, "c": [1, 2]}, "d": None})
    assert flat == {"a.b": 1, "a.c": "[1, 2]"}


def test_run_metrics_are_the_numbers_of_the_router_and_of_the_estimators() -> None:
    method = {
        "mean_curve_quality": 0.5,
        "max_quality": 0.6,
        "selected": {"match": {"cost_ratio": None, "gain": 0.1, "interval": [0, 1]}},
    }
    metrics = run_metrics(
        {
            "budget": {"estimator": "knn", "target": 2},
            "best_single": {"cost": 1.0},
            "oracle_quality": 0.7,
            "methods": {"knn": method, "fixed": method},
        }
    )
    assert metrics["knn.selected.match.gain"] == 0.1
    assert metrics["budget.target"] == 2.0
    assert not [k for k in metrics if k.startswith("fixed") or "interval" in k or "cost_ratio" in k]


def test_a_missing_metrics_file_is_reported_with_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Run 'catimage evaluate' first"):
        read_metrics(Workspace(tmp_path))


def lineage(folder: Path, lock: str) -> dict[str, str]:
    """Return the tags of DVC's outputs for the text of ``dvc.lock``."""
    (folder / "dvc.lock").write_text(lock)
    tags = lineage_tags(Workspace(folder))
    return {k: v for k, v in tags.items() if k.startswith("md5.") and k != "md5.dvc.lock"}


def test_an_output_without_a_hash_of_the_folder_has_no_tag(tmp_path: Path) -> None:
    """DVC writes the hash of each file instead if the remote storage is version-aware."""
    lock = """schema: '2.0'
stages:
  generate:
    cmd: x
    outs:
    - path: data/images
      files:
      - {relpath: a, md5: '0', size: 1}
    - {path: data/candidates.parquet, md5: abc}
  sample: {cmd: y}
"""
    assert lineage(tmp_path, lock) == {"md5.data/candidates.parquet": "abc"}


def test_a_lock_file_is_read_as_yaml_1_2(tmp_path: Path) -> None:
    lock = "stages: {train: {outs: [{path: no, md5: abc}]}}\n"
    assert lineage(tmp_path, lock) == {"md5.no": "abc"}


@pytest.mark.parametrize("lock", ["", "schema: '2.0'\n", "schema: '2.0'\nstages:\n"])
def test_a_lock_file_without_stages_gives_no_tags(tmp_path: Path, lock: str) -> None:
    assert lineage(tmp_path, lock) == {}


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        (
            "<<<<<<< A\nschema: 1\n=======\nschema: 2\n>>>>>>> B\n",
            "line 1: a merge conflict of git. Resolve it",
        ),
        ("stages: [1\n", "line 2: a bracket is not closed"),
        ("- a list\n", "not a lock file of DVC.*run 'dvc repro'"),
        ("stages: {train: {outs: [text]}}\n", "not a lock file of DVC.*run 'dvc repro'"),
        ("stages: {train: {outs: [{md5: 1}]}}\n", "not a lock file of DVC.*run 'dvc repro'"),
    ],
)
def test_a_lock_file_that_cannot_be_read_is_reported(
    tmp_path: Path, lock: str, problem: str
) -> None:
    with pytest.raises(InputError, match=rf"dvc\.lock: {problem}.*\.$"):
        lineage(tmp_path, lock)


@pytest.mark.parametrize("content", ["{", "[1]", '{"budget": {}}'])
def test_a_damaged_metrics_file_is_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.json: .*Run 'catimage evaluate' again"):
        read_metrics(Workspace(tmp_path))


def test_parameters_have_the_form_that_mlflow_accepts() -> None:
    found = run_params({"label": {"weights": {"größe@1": {"weights": "w" * 7000}}}, "a": [1, 2]})
    assert found["a"] == "[1, 2]"
    assert len(found["label.weights.gr__e_1.weights"]) == 6000

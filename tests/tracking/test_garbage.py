"""Runs that can be removed, on a real SQLite registry with small files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catimage.tracking.client import CHALLENGER, CHAMPION, EXPERIMENT, MODEL, connection
from catimage.tracking.garbage import needed_versions, registry_garbage
from catimage.tracking.versions import DIGEST_TAG, REFERENCE_TAG
from catimage.workspace import Workspace

DAY = 86_400_000
START = 1_700_000_000_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A registry with eight daily runs, of which the first seven are versions 1 to 7.

    Version 6 is the champion and version 7 the challenger. Version 2 was champion before, version 3
    is the reference of version 6, and the service uses version 4.
    """
    patch = pytest.MonkeyPatch()
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path_factory.mktemp("garbage")
    with connection(Workspace(root)) as client:
        experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
        client.create_registered_model(MODEL)
        for i in range(1, 9):
            start = START + i * DAY
            tags = {"md5.data/scores.parquet": f"hash{i}", "bento": f"service:{i}"}
            run = client.create_run(experiment, start_time=start, tags=tags)
            file = root / "report.html"
            file.write_text("x" * 1000)
            client.log_artifact(run.info.run_id, str(file))
            client.set_terminated(run.info.run_id, end_time=start + 1000)
            if i < 8:
                source, tag = f"{run.info.artifact_uri}/model", {DIGEST_TAG: f"digest{i}"}
                client.create_model_version(MODEL, source, run_id=run.info.run_id, tags=tag)
        client.set_registered_model_alias(MODEL, CHAMPION, "6")
        client.set_registered_model_alias(MODEL, CHALLENGER, "7")
        client.set_registered_model_tag(MODEL, "champions", json.dumps(["2", "6"]))
        client.set_model_version_tag(MODEL, "6", REFERENCE_TAG, "3")
        yield client
    patch.undo()


def test_aliases_history_references_and_served_versions_are_needed(client: Any) -> None:
    assert needed_versions(client, {"digest4"}) == {"2", "3", "4", "6", "7"}
    assert needed_versions(client, set()) == {"2", "3", "6", "7"}


@pytest.mark.parametrize(
    ("keep", "days", "expected"),
    [
        (1, 100, ["5", "1"]),  # the newest run, 8, has no version
        (4, 100, ["1"]),
        (1, 3, ["1"]),
        (20, 100, []),
    ],
)
def test_old_runs_that_nothing_needs_can_be_removed(
    client: Any, keep: int, days: int, expected: list[str]
) -> None:
    before = (START + days * DAY) / 1000
    garbage, needed = registry_garbage(client, keep, before, {"digest4"})
    assert [item.name.partition("(version ")[2].rstrip(")") for item in garbage] == expected
    assert all(item.size == 1000 for item in garbage)
    kept = {i for i in range(1, 9) if str(i) not in expected}
    assert needed.hashes == {f"hash{i}" for i in kept}
    assert needed.bentos == {f"service:{i}" for i in kept}
    assert needed.digests == {f"digest{i}" for i in kept - {8}}


def test_removal_deletes_the_run_its_versions_and_its_files(client: Any) -> None:
    before = (START + 100 * DAY) / 1000
    garbage, _ = registry_garbage(client, 1, before, {"digest4"})
    run_id = garbage[-1].name.partition(" ")[0]
    folder = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    assert (folder / "report.html").exists()
    garbage[-1].remove()
    assert not folder.exists()
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    versions = {int(v.version) for v in client.search_model_versions(f"name='{MODEL}'")}
    assert versions == {2, 3, 4, 5, 6, 7}
    (left,) = registry_garbage(client, 1, before, {"digest4"})[0]
    assert left.name.endswith("(version 5)")

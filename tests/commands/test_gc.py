"""``catimage gc``: a real workspace in git and DVC, with shards and the state of a service."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock

from catimage.commands import gc as module
from catimage.commands.gc import collect, totals
from catimage.data.shards.manifest import ShardEntry, write_manifest
from catimage.errors import InputError
from catimage.params import Params
from catimage.serving.state.store import State
from catimage.tracking.garbage import Needed
from catimage.workspace import Workspace

POLICY = {"days": 0, "runs": 1, "bentos": 1, "commits": 2}


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace without MLflow and Bentos, which have tests of their own."""
    monkeypatch.setenv("CATIMAGE_STATE_URL", f"sqlite:///{tmp_path}/state.db")
    monkeypatch.setattr(module, "_runs", lambda *arguments: ([], Needed()))
    monkeypatch.setattr(module, "_bentos", lambda *arguments: [])
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def params() -> Params:
    return Params.model_validate({"gc": POLICY})


def old(path: Path, days: float = 10) -> Path:
    """Write a file that was last changed some days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    os.utime(path, (time.time() - days * 86_400,) * 2)
    return path


def test_dead_shards_are_removed_by_age_and_live_ones_stay(
    workspace: Workspace, params: Params
) -> None:
    images = workspace.images
    live, dead, young = (images / f"{name}.parquet" for name in ("live", "dead", "young"))
    old(live), old(dead), old(young, days=1)
    write_manifest(images, [ShardEntry("live", "a", 1, "digest")])
    params = Params.model_validate({"gc": POLICY | {"days": 5}})
    found = collect(workspace, params)
    assert [(item.kind, item.name, item.size) for item in found] == [
        ("image shards", "dead.parquet", 1000)
    ]
    assert dead.exists(), "a dry run removes nothing"
    assert totals(collect(workspace, params, apply=True)) == [
        {"kind": "image shards", "number": 1, "bytes": 1000}
    ]
    assert {path.name for path in images.glob("*.parquet")} == {"live.parquet", "young.parquet"}


def test_a_stage_that_writes_images_is_not_disturbed(workspace: Workspace, params: Params) -> None:
    dead = old(workspace.images / "dead.parquet")
    write_manifest(workspace.images, [ShardEntry("live", "a", 1, "digest")])
    with FileLock(workspace.images.with_name(".images.lock")):
        assert len(collect(workspace, params)) == 1
        with pytest.raises(InputError, match="another process is writing it"):
            collect(workspace, params, apply=True)
    assert dead.exists()


def test_without_a_manifest_no_shard_is_dead(workspace: Workspace, params: Params) -> None:
    old(workspace.images / "interrupted.parquet")
    assert collect(workspace, params, apply=True) == []


def test_expired_images_and_jobs_of_the_service_are_removed(
    workspace: Workspace, params: Params
) -> None:
    now = [1_000_000.0]
    state = State.open(os.environ["CATIMAGE_STATE_URL"], clock=lambda: now[0])
    state.images.put(b"x" * 500, "image/png", 60)
    job = state.jobs.add({"prompt": "p"})
    state.jobs.claim("worker")
    state.jobs.finish(job.job_id, "worker", {"images": []})
    state.jobs.add({"prompt": "waits"})
    state.close()
    kept = State.open(os.environ["CATIMAGE_STATE_URL"])  # the present time
    token = kept.images.put(b"y" * 300, "image/png", 3600)
    found = collect(workspace, params)
    assert [(item.kind, item.number) for item in found] == [
        ("expired images of the service", 1),
        ("expired jobs of the service", 1),
    ]
    assert found[0].size == 500 and found[1].size == len('{"prompt": "p"}{"images": []}')
    assert kept.images.total_bytes() == 800
    collect(workspace, params, apply=True)
    assert kept.images.total_bytes() == 300 and kept.images.get(token) is not None
    assert kept.jobs.get(job.job_id) is None and kept.jobs.waiting() == 1
    assert collect(workspace, params) == []
    kept.close()


def test_no_database_is_created(workspace: Workspace, params: Params) -> None:
    assert collect(workspace, params) == []
    assert not (workspace.root.parent / "state.db").exists()


@pytest.fixture
def repository(workspace: Workspace) -> Workspace:
    """A repository with five commits of a file that DVC versions; the last is changed again."""
    from dvc.repo import Repo

    root = workspace.root
    root.mkdir()
    git(root, "init", "-q")
    with Repo.init(str(root)) as repo:
        for version in range(6):
            (root / "data").mkdir(exist_ok=True)
            (root / "data" / "table").write_text(f"version {version}")
            (root / "data" / f"file-{version}").write_text(f"file {version}")
            repo.add(str(root / "data"))
            if version < 5:
                git(root, "add", ".")
                git(root, "commit", "-qm", f"version {version}")
    return workspace


def cached(workspace: Workspace) -> dict[str, str]:
    """Return the content of the objects in the cache that are not folders, by hash."""
    cache = workspace.root / ".dvc" / "cache" / "files" / "md5"
    files = [p for p in cache.glob("*/*") if p.suffix != ".dir"]
    return {p.read_text(): p.parent.name + p.name for p in files}


def test_old_cache_that_no_recent_commit_needs_is_removed(
    repository: Workspace, params: Params
) -> None:
    """Kept are the workspace (version 5) and two commits (4 and 3)."""
    before = cached(repository)
    tables = {f"version {i}" for i in range(6)}
    assert set(before) == tables | {f"file {i}" for i in range(6)}
    dry = collect(repository, params)
    assert {item.kind for item in dry} == {"DVC cache"}
    assert cached(repository) == before
    collect(repository, params, apply=True)
    kept = {f"version {i}" for i in (3, 4, 5)} | {f"file {i}" for i in range(6)}
    assert set(cached(repository)) == kept
    assert collect(repository, params) == []
    status = subprocess.run(
        ["git", "status", "--porcelain", "data.dvc"],
        cwd=repository.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert status.stdout.strip() == "M data.dvc", "only the change of the test"


def test_the_outputs_that_a_kept_router_was_made_from_stay_in_the_cache(
    repository: Workspace, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository.root / ".dvc" / "cache" / "files" / "md5"
    oldest = cached(repository)["version 0"]
    (tree,) = (p for p in folder.glob("*/*.dir") if oldest in p.read_text())
    needed = Needed(hashes={tree.parent.name + tree.name})
    monkeypatch.setattr(module, "_runs", lambda *arguments: ([], needed))
    collect(repository, params, apply=True)
    assert {"version 0", "version 3"} <= set(cached(repository))
    assert "version 1" not in cached(repository) and tree.exists()


def test_stages_that_have_never_run_give_no_warnings(
    repository: Workspace, params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    stages = "stages: {never: {cmd: 'false', outs: [missing]}}\n"
    (repository.root / "dvc.yaml").write_text(stages)
    git(repository.root, "add", "dvc.yaml")
    git(repository.root, "commit", "-qm", "stage")
    assert collect(repository, params)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_young_cache_stays(repository: Workspace) -> None:
    assert collect(repository, Params.model_validate({"gc": POLICY | {"days": 1}})) == []


def test_a_process_of_dvc_is_not_disturbed(repository: Workspace, params: Params) -> None:
    from dvc.repo import Repo

    before = cached(repository)
    with Repo(str(repository.root)) as repo, repo.lock:
        assert collect(repository, params)
        with pytest.raises(InputError, match="another process of DVC is running"):
            collect(repository, params, apply=True)
    assert cached(repository) == before

"""The DVC remote of a workspace on S3-compatible storage."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.repo import Repo

from catimage.commands.data_remote import DataRemote, pull, push
from catimage.common.yaml_files import read_yaml
from catimage.errors import InputError, OutageError
from tests.commands.test_data_remote import EXPECTED, clone_of, contents, new_repository
from tests.system.programs import S3


@pytest.fixture(autouse=True)
def environment(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


def test_another_machine_gets_the_outputs_from_a_bucket(s3: S3, tmp_path: Path) -> None:
    remote = DataRemote(f"s3://{s3.new_bucket()}/team")
    workspace = new_repository(tmp_path / "one")
    assert push(workspace, remote) == 4
    other = clone_of(workspace, tmp_path / "two")
    assert sorted(pull(other, remote)) == ["data/images", "data/t"]
    assert contents(other) == EXPECTED


def test_old_versions_stay_in_a_bucket_with_versioning(s3: S3, tmp_path: Path) -> None:
    bucket = s3.new_bucket(versioning=True)
    remote = DataRemote(f"s3://{bucket}/team", version_aware=True)
    workspace = new_repository(tmp_path / "one")
    assert push(workspace, remote) == 3
    old = clone_of(workspace, tmp_path / "old")
    text = (workspace.root / "dvc.yaml").read_text().replace("echo 2", "echo changed")
    (workspace.root / "dvc.yaml").write_text(text)
    pipeline = str(workspace.root / "dvc.yaml")
    with Repo(str(workspace.root)) as repo:
        assert [stage.name for stage in repo.reproduce(pipeline)] == ["one"]
    assert push(workspace, remote) == 2, "DVC uploads all files of a changed folder again"
    new = clone_of(workspace, tmp_path / "new")
    pull(new, remote)
    pull(old, remote)
    assert contents(old) == EXPECTED
    assert contents(new) == EXPECTED | {"images/b": "changed\n"}
    names = {o["Key"] for o in s3.client().list_objects_v2(Bucket=bucket)["Contents"]}
    assert names == {"team/data/images/a", "team/data/images/b", "team/data/t"}
    with Repo(str(workspace.root)) as repo:
        assert repo.reproduce(pipeline) == [], "the versions in dvc.lock make no stage out of date"


def test_wrong_buckets_are_reported_and_change_nothing(s3: S3, tmp_path: Path) -> None:
    workspace = new_repository(tmp_path / "one")
    lock = (workspace.root / "dvc.lock").read_bytes()
    with pytest.raises(InputError, match=r"NoSuchBucket.*Create the bucket"):
        push(workspace, DataRemote("s3://no-such-bucket/team", version_aware=True))
    bucket = s3.new_bucket()
    with pytest.raises(InputError, match=f"the bucket '{bucket}' has no versioning. Enable it"):
        push(workspace, DataRemote(f"s3://{bucket}/team", version_aware=True))
    assert (workspace.root / "dvc.lock").read_bytes() == lock
    assert read_yaml(workspace.root / "dvc.lock")["stages"]["one"]["outs"][0]["md5"]


def test_an_unreachable_server_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = new_repository(tmp_path / "one")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(OutageError, match="Could not connect to the endpoint"):
        push(workspace, DataRemote("s3://bucket-x/team"))

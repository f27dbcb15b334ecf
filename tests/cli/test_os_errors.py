"""Full disks, read-only workspaces and other errors of the operating system.

The file systems are real: a small tmpfs and a read-only bind mount in a namespace of mounts.
"""

import errno
import os
import resource
import shutil

import pytest

from catimage.cli import app
from catimage.cli.os_errors import os_error_message
from catimage.common.hashing import file_digest
from catimage.stages import evaluate
from catimage.workspace import check_free_space, replacing
from tests import forked
from tests.forked import needs_mount
from tests.trained_workspace import train_workspace


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The folder of an evaluated workspace."""
    workspace, params = train_workspace(
        tmp_path_factory.mktemp("evaluated"), evaluate={"bootstrap": 100}
    )
    evaluate.run(workspace, params)
    return workspace.root


def contents(folder):
    """Return the content of each file of a folder, without those in ``.catimage``."""
    files = (p for p in folder.rglob("*") if p.is_file() and ".catimage" not in p.parts)
    return {str(p.relative_to(folder)): file_digest(p) for p in files}


def run_commands(folder, commands, prepare, tmp_path):
    """Run commands in a forked process after calling ``prepare`` in it.

    Returns:
        The exit status and the standard error of each command, and the contents of the files in
        ``folder`` before and after the commands.
    """

    def run():
        prepare()
        before = contents(folder)
        results = forked.run_commands(commands)
        return results, before, contents(folder)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
        return forked.result_of(run, tmp_path)


def in_namespace(script):
    """Return a function that runs a shell command in a new namespace of users and mounts."""

    def prepare():
        forked.enter_namespace(root=True)
        forked.shell(script)

    return prepare


def one_line_messages(results):
    """Return the messages of failed commands; each must be one line."""
    assert [status for status, _ in results] == [2] * len(results), results
    messages = [error.strip().splitlines() for _, error in results]
    assert [lines for lines in messages if len(lines) != 1] == []
    return [lines[0] for lines in messages]


@needs_mount
def test_a_full_disk_is_reported_in_one_sentence_and_nothing_is_lost(evaluated, tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    prepare = in_namespace(
        f"mount -t tmpfs -o size=1200k tmpfs {folder} && cp -r {evaluated}/. {folder}"
        f" && (dd if=/dev/zero of={folder}/fill bs=1k 2>/dev/null; true)"
    )
    w = ["--workspace", str(folder)]
    commands = [[name, *w] for name in ("train", "calibrate", "evaluate")]
    commands += [["register", *w], ["evaluate", *w, "--set", "evaluate.bootstrap=101"]]
    results, before, after = run_commands(folder, commands, prepare, tmp_path)
    written = ["models/estimators", "models/router", "reports/", "", "params.yaml"]
    for message, path in zip(one_line_messages(results), written, strict=True):
        assert message.startswith(f"catimage: {folder / path}"), message
        assert message.endswith(
            ": no space is left on the disk. Free space, and run the command again."
        )
    assert after == before
    assert "params.yaml" in before


@needs_mount
def test_a_read_only_workspace_can_be_used_and_is_reported_by_every_command_that_writes(
    evaluated, tmp_path
):
    folder = tmp_path / "read-only"
    shutil.copytree(evaluated, folder)
    prepare = in_namespace(forked.read_only(folder))
    w = ["--workspace", str(folder)]
    commands = [["route", "plain amber", *w], ["train", *w], ["calibrate", *w]]
    commands += [["validate", *w, "--set", "budget=50%"], ["register", *w]]
    outcomes, before, after = run_commands(folder, commands, prepare, tmp_path)
    routed, *results, registered = outcomes
    assert routed == [0, ""]
    (message,) = one_line_messages([registered])
    assert message.startswith(f"catimage: {folder}")
    assert "cannot be written. Make it writable" in message
    written = ["models/estimators", "models/router", "params.yaml"]
    for message, path in zip(one_line_messages(results), written, strict=True):
        assert message == (
            f"catimage: {folder / path}: the file system is read-only. Make it writable, or copy"
            " the workspace to another file system."
        )
    assert after == before


def test_a_limit_of_the_size_of_files_is_reported(evaluated, tmp_path):
    """The effect of a full disk without mounting one: no file may be larger than 1 kB."""
    folder = tmp_path / "limited"
    shutil.copytree(evaluated, folder)

    def attempt():
        before = {str(p): file_digest(p) for p in folder.rglob("*") if p.is_file()}
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
        results = forked.run_commands([["train", "--workspace", str(folder)]])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        return results, before

    ((status, message),), before = forked.result_of(attempt, tmp_path)
    assert status == 2
    assert message.startswith(
        f"catimage: {folder}/models/estimators: the file would be larger than"
    )
    assert {str(p): file_digest(p) for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.EACCES, "permission denied. Change the permissions"),
        (errno.EPERM, "permission denied. Change the permissions"),
        (errno.EDQUOT, "the disk quota is used up. Free space"),
        (errno.EROFS, "the file system is read-only. Make it writable"),
        (errno.EISDIR, "is a folder, not a file. Rename or remove it"),
        (errno.ENOTDIR, "a part of the path is a file, not a folder. Correct the path"),
    ],
)
def test_errors_that_the_user_can_fix_are_sentences_with_the_path(code, text):
    error = OSError(code, os.strerror(code), "w/data/scores.parquet")
    assert os_error_message(error).startswith(f"w/data/scores.parquet: {text}")


def test_other_errors_are_not_hidden():
    assert os_error_message(OSError(errno.ECHILD, "no child", "x")) is None
    assert os_error_message(OSError("without a number")) is None


def test_the_errors_of_a_copied_folder_are_recognised():
    """``shutil.copytree`` raises one error without a number that lists the errors of all files."""
    copied = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")])
    copied.filename = "models/router"
    assert os_error_message(copied).startswith("models/router: no space is left on the disk.")


def test_the_command_line_prints_the_sentence_and_exits_with_status_2(monkeypatch, capsys):
    def full(**_):
        raise OSError(errno.ENOSPC, "full", "w/reports")

    monkeypatch.setattr(app, "app", full)
    with pytest.raises(SystemExit) as error:
        app.main()
    assert error.value.code == 2
    assert capsys.readouterr().err == (
        "catimage: w/reports: no space is left on the disk. Free space, and run the command"
        " again.\n"
    )


def test_the_message_names_the_file_and_not_its_temporary_name(tmp_path):
    for target in (tmp_path / "file", tmp_path / "folder"):
        with pytest.raises(OSError) as error, replacing(target) as new:
            raise OSError(errno.ENOSPC, "full", str(new / "part") if "folder" in str(new) else None)
        assert error.value.filename == str(target)
    assert not any(tmp_path.iterdir())


def test_too_little_free_space_is_an_error_of_the_operating_system(tmp_path):
    check_free_space(tmp_path, 1)
    with pytest.raises(OSError) as error:
        check_free_space(tmp_path, 2**62)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path)
    assert not any(tmp_path.iterdir())


@needs_mount
def test_a_workspace_without_write_permission_is_reported(evaluated, tmp_path):
    """The command runs without the privileges of root, as the owner of a folder with mode 555."""
    folder = tmp_path / "forbidden"
    shutil.copytree(evaluated, folder)
    models = folder / "models"
    models.chmod(0o555)

    def attempt():
        forked.enter_namespace(root=False)
        return forked.run_commands([["calibrate", "--workspace", str(folder)]])

    ((status, message),) = forked.result_of(attempt, tmp_path)
    models.chmod(0o755)
    assert status == 2
    assert message == (
        f"catimage: {models / 'router'}: permission denied. Change the permissions of the file or"
        " of its folder.\n"
    )

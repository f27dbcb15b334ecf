"""The commands ``keys create``, ``keys list`` and ``keys revoke``."""

import json

import pytest
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.errors import InputError
from catimage.serving.state.store import State


@pytest.fixture
def url(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'state.db'}"
    monkeypatch.setenv("CATIMAGE_STATE_URL", url)
    return url


def run(*arguments):
    """Run the command; return its standard output and standard error."""
    result = CliRunner().invoke(app, ["keys", *arguments])
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_a_key_is_created_listed_and_revoked(url):
    out, err = run(
        "create", "web shop", "--budget", "2", "--ceiling", "9.5", "--rate-limit", "5/second"
    )
    secret = out.strip()
    state = State.open(url)
    key = state.keys.verify(secret)
    assert (key.name, key.budget, key.ceiling, key.rate_limit) == ("web shop", 2.0, 9.5, "5/second")
    assert err == f"key {key.key_id} (web shop): this secret is shown only once.\n"
    state.spending.settle(state.spending.reserve(key, 3.0), 3.0)
    (row,) = json.loads(run("list", "--json")[0])
    assert row["id"] == key.key_id and row["spent_this_month"] == 3.0 and row["revoked"] is None
    assert secret not in str(row)
    assert run("revoke", key.key_id)[0] == f"key {key.key_id} (web shop): revoked\n"
    (row,) = json.loads(run("list", "--json")[0])
    assert row["revoked"] >= row["created"]
    state.close()
    again = State.open(url)
    assert again.keys.verify(secret) is None
    again.close()


def test_json_contains_the_secret_of_a_new_key(url):
    created = json.loads(run("create", "b", "--json")[0])
    assert created["name"] == "b" and created["secret"].startswith(f"cat-{created['id']}-")


def test_the_table_has_one_line_per_key(url):
    assert run("list")[0] == ""
    run("create", "first")
    run("create", "second", "--ceiling", "10")
    header, first, second = run("list")[0].splitlines()
    assert header.split()[:3] == ["id", "name", "created"]
    assert first.split()[1] == "first" and second.split()[5] == "10"


def test_the_default_database_is_named_after_the_service(tmp_path, monkeypatch):
    monkeypatch.delenv("CATIMAGE_STATE_URL", raising=False)
    monkeypatch.setenv("CATIMAGE_HOME", str(tmp_path / "home"))
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "params.yaml").write_text("package:\n  name: shop\n")
    run("create", "a", "--workspace", str(workspace))
    assert (tmp_path / "home" / "shop" / "state.db").is_file()
    assert len(json.loads(run("list", "--json", "--workspace", str(workspace))[0])) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", ""], "name: the name is empty"),
        (["create", "a", "--rate-limit", "6"], "rate_limit: '6' is not a rate limit"),
        (["create", "a", "--ceiling", "-1"], "ceiling: -1 is not"),
        (["create", "a", "--budget", "cheap"], "--budget cheap: must be a finite number"),
        (["revoke", "unknown"], "no valid key has this id. See 'catimage keys list'"),
        (["list", "--workspace", "/nothing"], "folder not found"),
    ],
)
def test_invalid_arguments_are_refused(url, arguments, message):
    with pytest.raises(InputError) as caught:
        run(*arguments)
    assert message in str(caught.value)

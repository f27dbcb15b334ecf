"""Settings of the service and their environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from catimage.errors import InputError
from catimage.params.serving import ServingParams
from catimage.serving.settings import load_environment, load_settings


def test_environment_variables_override_single_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATIMAGE_SERVING__EXPLORE", "0.25")
    monkeypatch.setenv("CATIMAGE_SERVING__QUALITIES", '{"low": "10%"}')
    monkeypatch.setenv("CATIMAGE_SERVING__LOG_PROMPTS", "true")
    monkeypatch.setenv("CATIMAGE_SERVING__RATE_LIMIT", "")
    settings = load_settings(ServingParams(budget="30%", rate_limit="5/minute"))
    assert settings == ServingParams(
        budget="30%",
        rate_limit="5/minute",
        explore=0.25,
        qualities={"low": "10%"},
        log_prompts=True,
    )


def test_without_variables_the_settings_are_those_of_the_section() -> None:
    params = ServingParams(budget="30%", latency_target=3.0)
    assert load_settings(params) == params


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("EXPLORE", "2", "CATIMAGE_SERVING__EXPLORE: must be at most 1"),
        ("QUALITIES", "{x", "CATIMAGE_SERVING__QUALITIES: not valid JSON"),
        ("EXPLOR", "1", "unknown key .* Did you mean CATIMAGE_SERVING__EXPLORE?"),
    ],
)
def test_invalid_variables_are_refused(
    key: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CATIMAGE_SERVING__{key}", value)
    with pytest.raises(InputError, match=message):
        load_settings(ServingParams())


def test_default_folders_are_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_URL", "REDIS_URL", "LOG_FOLDER", "SECRET", "WORKSPACE"):
        monkeypatch.delenv(f"CATIMAGE_{name}", raising=False)
    monkeypatch.setenv("CATIMAGE_HOME", str(tmp_path / "home"))
    environment = load_environment()
    assert environment.state("a") == f"sqlite:///{tmp_path / 'home' / 'a' / 'state.db'}"
    assert environment.decision_log("a") == tmp_path / "home" / "a" / "decisions"
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("CATIMAGE_STATE_URL", "postgresql+psycopg://host/db")
    monkeypatch.setenv("CATIMAGE_LOG_FOLDER", str(tmp_path / "logs"))
    environment = load_environment()
    assert environment.state("a") == "postgresql+psycopg://host/db"
    assert environment.decision_log("a") == tmp_path / "logs"


def test_addresses_of_groups_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATIMAGE_GROUP_URLS", '{"generators": "http://10.0.0.7:3000"}')
    assert load_environment().group_urls == {"generators": "http://10.0.0.7:3000"}
    monkeypatch.setenv("CATIMAGE_GROUP_URLS", "http://10.0.0.7:3000")
    with pytest.raises(InputError, match="CATIMAGE_GROUP_URLS: not valid JSON"):
        load_environment()

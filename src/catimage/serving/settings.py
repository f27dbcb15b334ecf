"""Settings of the service: ``params.yaml``, and the environment variables that override it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    SettingsConfigDict,
    SettingsError,
)

from catimage.common.schema_errors import first_problem
from catimage.errors import InputError, closest
from catimage.params.serving import ServingParams

PREFIX = "CATIMAGE_SERVING__"
"""Prefix of the environment variables that override the section ``serving``."""


class ServingEnvironment(BaseSettings):
    """The environment variables of the service, besides those of the section ``serving``.

    Attributes:
        workspace: ``CATIMAGE_WORKSPACE``: the folder with ``params.yaml`` and ``models/router``;
            by default the current folder, which is the content of the Bento.
        home: ``CATIMAGE_HOME``: the folder of the default state and of the logs.
        state_url: ``CATIMAGE_STATE_URL``: the database that the replicas share (SQLAlchemy URL);
            empty for a SQLite file in ``home``.
        redis_url: ``CATIMAGE_REDIS_URL``: the Redis server that counts requests for rate limits;
            empty to count them in each replica.
        log_folder: ``CATIMAGE_LOG_FOLDER``: the folder of the decision log; by default in ``home``.
        secret: ``CATIMAGE_SECRET``: the key of signed image URLs and of hashes of users; empty to
            create a key once and to keep it in the state.
        group_urls: ``CATIMAGE_GROUP_URLS``: addresses of generator services that run elsewhere, as
            JSON: ``{"generators": "http://10.0.0.7:3000"}``.
    """

    model_config = SettingsConfigDict(env_prefix="CATIMAGE_", extra="ignore", frozen=True)

    workspace: Path = Path()
    home: Path = Path("~/.catimage")
    state_url: str = ""
    redis_url: str = ""
    log_folder: Path | None = None
    secret: str = ""
    group_urls: dict[str, str] = {}

    def folder(self, name: str) -> Path:
        """Return the folder of the state and of the logs of the service ``name``."""
        return self.home.expanduser().absolute() / name

    def state(self, name: str) -> str:
        """Return the SQLAlchemy URL of the state of the service ``name``.

        The folder of a SQLite file may not exist yet.
        """
        return self.state_url or f"sqlite:///{self.folder(name) / 'state.db'}"

    def decision_log(self, name: str) -> Path:
        """Return the folder of the decision log of the service ``name``, which may not exist."""
        return self.log_folder or self.folder(name) / "decisions"


def load_environment() -> ServingEnvironment:
    """Return the environment variables of the service.

    Raises:
        InputError: a variable has an invalid value.
    """
    try:
        return ServingEnvironment()
    except (ValidationError, SettingsError) as error:
        raise _input_error("CATIMAGE_", error) from error


def load_settings(params: ServingParams) -> ServingParams:
    """Return the section ``serving`` with the environment variables ``CATIMAGE_SERVING__<KEY>``.

    Lists and mappings are JSON. A variable that is set to nothing counts as left out.

    Args:
        params: the section ``serving`` of ``params.yaml``.

    Raises:
        InputError: a variable has an invalid value, or its key is unknown.
    """
    try:
        overrides = _overrides()().model_dump(exclude_unset=True)
    except (ValidationError, SettingsError) as error:
        raise _input_error(PREFIX, error) from error
    return ServingParams.model_validate(params.model_dump() | overrides)


def _overrides() -> type[BaseSettings]:
    """Return a class of settings with the keys of the section ``serving``."""

    class Overrides(BaseSettings, ServingParams):
        model_config = SettingsConfigDict(
            env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
        )

    _check_names(Overrides)
    return Overrides


def _check_names(settings: type[BaseSettings]) -> None:
    """Raise InputError if an environment variable with the prefix has an unknown key."""
    keys = list(settings.model_fields)
    for name in os.environ:
        if name.startswith(PREFIX) and (key := name.removeprefix(PREFIX).lower()) not in keys:
            similar = closest(key, keys)
            fix = f"Did you mean {PREFIX}{similar.upper()}?" if similar else f"Keys: {keys}."
            raise InputError(f"{name}: unknown key of the section 'serving'. {fix}")


def _input_error(prefix: str, error: ValidationError | SettingsError) -> InputError:
    if isinstance(error, SettingsError):  # the value is not JSON
        key = str(error).split('"')[1]
        return InputError(f"{prefix}{key.upper()}: not valid JSON. Correct the variable.")
    key = str(error.errors()[0]["loc"][0])
    reason: Any = first_problem(error)
    return InputError(f"{prefix}{key.upper()}: {reason}. Correct the variable.")

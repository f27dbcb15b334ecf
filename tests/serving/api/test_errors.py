"""Error responses."""

from __future__ import annotations

import logging

import pytest

from catimage.serving.api.errors import STATE_UNAVAILABLE, error_document
from catimage.serving.messages import ServingError


def test_the_place_of_the_database_is_logged_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    problem = "/srv/state.db: the disk is full. Free space."
    with caplog.at_level(logging.WARNING):
        error = error_document(ServingError(problem, 503, STATE_UNAVAILABLE))["error"]
    assert error["message"] == "service: its database cannot be used now. Try again later."
    assert (error["code"], error["type"]) == ("state_unavailable", "server_error")
    assert problem in caplog.text

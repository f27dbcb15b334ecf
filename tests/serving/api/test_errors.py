"""Error responses."""

from __future__ import annotations

import logging

import pytest

from catimage.serving.api.errors import error_document
from catimage.serving.state.failures import state_unavailable


def test_the_place_of_the_database_is_logged_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    problem = "/srv/state.db: the disk is full. Free space."
    with caplog.at_level(logging.WARNING):
        error = error_document(state_unavailable(problem))["error"]
    assert error["message"] == "service: its database cannot be used now. Try again later."
    assert (error["code"], error["type"]) == ("state_unavailable", "server_error")
    assert problem in caplog.text

"""A champion that cannot be read: the flow fails, so that a person is notified."""

from __future__ import annotations

from pathlib import Path

from prefect.client.schemas import State

from catimage.tracking.registry import RegistrationResult
from flows import retrain


def test_a_blocked_promotion_fails_the_flow(tmp_path: Path) -> None:
    reason = "the champion cannot be compared, so it is not replaced automatically: it is lost."
    registered = RegistrationResult("run", "2", False, reason, blocked=True)
    state = retrain._promoted(tmp_path, registered, approval=None)
    assert isinstance(state, State) and state.is_failed()
    assert state.message == f"version 2 is not promoted: {reason}"

"""Prefect's automations: notifications by a webhook, and the end of runs whose process has died."""

from __future__ import annotations

from datetime import timedelta
from typing import cast
from uuid import UUID

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

FLOWS = ("retrain", "monitor", "check_served", "promote", "rollback", "backfill")
"""The names of the flows."""
FAILED = ("Failed", "Crashed", "TimedOut", "Late")
"""The states of runs that are reported; a run is late if no worker starts it."""
ENDED = ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut", "Skipped", "Paused")
"""The states of runs that send no heartbeats any more."""
HEARTBEAT = "prefect.flow-run.heartbeat"
SILENCE = timedelta(minutes=10)
"""A run that sends no heartbeat for this time has died. Runs send one every three minutes."""
_RUN_TEXT = (
    '{"text": {{ ("CATImage: flow " ~ flow.name ~ " " ~ flow_run.name ~ ": " ~'
    ' flow_run.state.name ~ ". " ~ (flow_run.state.message or "")) | tojson }}}'
)
_DRIFT_TEXT = '{"text": {{ ("CATImage: drift. " ~ event.payload["reason"]) | tojson }}}'
_RELATED = {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)}


def automations(webhook: UUID | None) -> list[AutomationCore]:
    """Return the automations of an installation.

    Args:
        webhook: the identifier of the block with the address that is notified; None without
            notifications.
    """
    dead = EventTrigger(
        after={HEARTBEAT},
        expect={HEARTBEAT, *(f"prefect.flow-run.{name}" for name in ENDED)},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=_RELATED,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=SILENCE,
    )
    crash = ChangeFlowRunState(
        state=StateType.CRASHED, message="The process of the run has died: it sent no heartbeat."
    )
    found = [
        AutomationCore(
            name="catimage: end dead runs",
            description="Releases the concurrency slot of a run whose process or machine has died",
            trigger=dead,
            actions=[crash],
        )
    ]
    return found if webhook is None else [*found, *_notifications(webhook)]


def _notifications(webhook: UUID) -> list[AutomationCore]:
    """Return the automations that call the webhook."""
    failure = EventTrigger(
        expect={f"prefect.flow-run.{name}" for name in FAILED},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=_RELATED,
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
    drift = EventTrigger(
        expect={"catimage.drift"}, posture=Posture.Reactive, threshold=1, within=timedelta(0)
    )
    return [
        AutomationCore(
            name="catimage: report failures",
            description="Calls the webhook if a run fails, crashes, takes too long, or is late",
            trigger=failure,
            actions=[CallWebhook(block_document_id=webhook, payload=_RUN_TEXT)],
        ),
        AutomationCore(
            name="catimage: report drift",
            description="Calls the webhook if the monitor raises an alarm",
            trigger=drift,
            actions=[CallWebhook(block_document_id=webhook, payload=_DRIFT_TEXT)],
        ),
    ]


def apply(core: AutomationCore) -> str:
    """Create or update an automation by its name; return what was done."""
    wanted = Automation.model_validate(core.model_dump())
    try:
        existing = cast("Automation", Automation.read(name=core.name))
    except ValueError:  # there is no automation of this name
        wanted.create()
        return f"created the automation {core.name!r}"
    wanted.id = existing.id
    wanted.enabled = existing.enabled
    wanted.update()
    return f"updated the automation {core.name!r}"

"""The ways in which a task of a generator service fails, and their representation as JSON.

The class determines whether another candidate may answer. The messages contain no prompts.
"""

from __future__ import annotations

from typing import Any, ClassVar

from catimage.errors import InputError
from catimage.serving.messages import JsonObject


class GenerationFailure(InputError):
    """Base class: a task has failed.

    Attributes:
        code: identifier of the class in responses.
        status: HTTP status of the response, if the task fails before its first event.
        fallback: whether another candidate may answer, or the same one later.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    fallback: ClassVar[bool] = True


class TaskRefused(GenerationFailure):
    """The candidate does not support the task."""

    code, status, fallback = "refused", 400, False


class PromptModerated(TaskRefused):
    """The provider of a hosted candidate refuses the prompt."""

    code = "moderated"


class TaskFailed(GenerationFailure):
    """The generator raised an exception. Another candidate may answer."""

    code, status = "failed", 500


class GroupUnavailable(GenerationFailure):
    """The service does not run, is starting, or has ended in the middle of the task."""

    code, status = "unavailable", 503


class QueueFull(GenerationFailure):
    """The queue of the service has reached its limit."""

    code, status = "queue_full", 429


class TaskTimedOut(GenerationFailure):
    """The time limit of a task has passed.

    Args:
        message: a message of the form ``<field>: <problem>. <fix>.``
        billed: whether a provider may already have charged for the images. If so, no other
            candidate may answer, because the images would be paid for twice.
    """

    code, status = "timed_out", 504

    def __init__(self, message: str, billed: bool = False) -> None:
        super().__init__(message)
        self.billed = billed


_CLASSES: dict[str, type[GenerationFailure]] = {
    cls.code: cls
    for cls in (
        TaskRefused,
        PromptModerated,
        TaskFailed,
        GroupUnavailable,
        QueueFull,
        TaskTimedOut,
    )
}


def may_fall_back(failure: GenerationFailure) -> bool:
    """Return whether another candidate may answer after a failure."""
    return failure.fallback and not (isinstance(failure, TaskTimedOut) and failure.billed)


def failure_document(failure: GenerationFailure) -> JsonObject:
    """Return a failure as a JSON object, for :func:`failure_of`."""
    document: JsonObject = {"code": failure.code, "message": str(failure)}
    if isinstance(failure, TaskTimedOut):
        document["billed"] = failure.billed
    return document


def failure_of(document: Any) -> GenerationFailure:
    """Return the failure that a JSON object of :func:`failure_document` describes.

    Raises:
        ValueError: the object is invalid.
    """
    try:
        cls, message = _CLASSES[document["code"]], str(document["message"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a failure of a task: {document!r:.200}") from error
    if cls is TaskTimedOut:
        return TaskTimedOut(message, bool(document.get("billed")))
    return cls(message)

"""The messages between the router and the generator services, as bytes.

A task is a JSON object. The response is a stream of frames, one per event. A frame is the length
of its header (4 bytes, big-endian), the header (JSON), and the pixels of an image (uint8, row by
row). The last frame has the summary of the task, or the failure.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from catimage.serving.generator.failures import GenerationFailure, failure_document, failure_of
from catimage.serving.tasks import (
    FinishedImage,
    FinishedTask,
    GroupStatus,
    ImageTask,
    Preview,
    TaskEvent,
)

MEDIA_TYPE = "application/x-catimage-frames"
"""The media type of a stream of frames."""
MAX_HEADER = 1 << 16
"""Maximum number of bytes of the header of a frame."""
MAX_PIXELS = 1 << 28
"""Maximum number of bytes of the pixels of a frame."""

ReadExactly = Callable[[int], Awaitable[bytes]]
"""Reads n bytes; raises an exception if the stream ends before."""

_LENGTH = struct.Struct(">I")
_TASK = TypeAdapter(ImageTask)
_STATUS = TypeAdapter(GroupStatus)


def encode_task(task: ImageTask) -> bytes:
    """Return a task as JSON."""
    return json.dumps(asdict(task)).encode()


def decode_task(data: bytes) -> ImageTask:
    """Return the task in a JSON document of :func:`encode_task`.

    Raises:
        ValueError: the document is invalid. The message does not contain the prompt.
    """
    try:
        return _TASK.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ValueError(f"task: {first['loc']}: {first['msg']}. Correct it.") from None


def encode_status(status: GroupStatus) -> bytes:
    """Return the state of a service as JSON."""
    return _STATUS.dump_json(status)


def decode_status(data: bytes) -> GroupStatus:
    """Return the state in a JSON document of :func:`encode_status`.

    Raises:
        ValueError: the document is invalid.
    """
    return _STATUS.validate_json(data)


def encode_event(event: TaskEvent | GenerationFailure) -> bytes:
    """Return an event or a failure as one frame."""
    pixels: np.ndarray | None = None
    header: dict[str, Any]
    match event:
        case Preview(index, number, pixels):
            header = {"event": "preview", "index": index, "number": number}
        case FinishedImage(index, pixels, flagged):
            header = {"event": "image", "index": index, "flagged": flagged}
        case FinishedTask():
            header = {"event": "finished", **asdict(event)}
        case GenerationFailure():
            header = {"event": "failure", **failure_document(event)}
    if pixels is not None:
        header["shape"] = pixels.shape
    data = json.dumps(header).encode()
    body = b"" if pixels is None else np.ascontiguousarray(pixels, np.uint8).tobytes()
    return b"".join((_LENGTH.pack(len(data)), data, body))


async def read_event(read: ReadExactly) -> TaskEvent | GenerationFailure:
    """Read the next frame of a stream.

    Args:
        read: reads bytes of the stream; its exceptions are not caught.

    Raises:
        ValueError: the frame is invalid.
    """
    (length,) = _LENGTH.unpack(await read(_LENGTH.size))
    if length > MAX_HEADER:
        raise ValueError(f"frame: the header has {length} bytes, more than {MAX_HEADER}")
    header = json.loads(await read(length))
    pixels = await _read_pixels(header["shape"], read) if "shape" in header else None
    match header.pop("event", None):
        case "preview" if pixels is not None:
            return Preview(header["index"], header["number"], pixels)
        case "image":
            return FinishedImage(header["index"], pixels, header["flagged"])
        case "finished":
            return FinishedTask(**header)
        case "failure":
            return failure_of(header)
        case other:
            raise ValueError(f"frame: unknown event {other!r}")


async def _read_pixels(shape: list[int], read: ReadExactly) -> np.ndarray:
    """Read the pixels of a frame: uint8, (height, width, 3)."""
    size = math.prod(shape)
    if len(shape) != 3 or not 0 < size <= MAX_PIXELS:
        raise ValueError(f"frame: invalid shape {shape}")
    return np.frombuffer(await read(size), np.uint8).reshape(shape)

"""Frames and JSON documents between the router and the generator services."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.serving.generator import failures, wire
from catimage.serving.tasks import (
    CandidateLoad,
    FinishedImage,
    FinishedTask,
    GroupStatus,
    ImageTask,
    Preview,
)

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def read_all(data: bytes) -> list:
    """Read the frames of a stream until it ends."""

    async def read() -> list:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        events = []
        while not reader.at_eof():
            events.append(await wire.read_event(reader.readexactly))
        return events

    return asyncio.run(read())


@given(
    st.builds(
        ImageTask,
        request_id=st.text(),
        candidate=st.text(),
        prompt=st.text(st.characters(exclude_categories=("Cs",))),
        seeds=st.lists(st.integers(0, 2**40)).map(tuple),
        negative_prompt=st.none() | st.text(st.characters(exclude_categories=("Cs",))),
        previews=st.integers(0, 3),
        timeout=st.floats(0.1, 1000),
    )
)
def test_a_task_is_unchanged_by_its_encoding(task):
    assert wire.decode_task(wire.encode_task(task)) == task


def test_an_invalid_task_is_reported_without_its_prompt():
    with pytest.raises(ValueError, match="seeds") as error:
        wire.decode_task(b'{"request_id": "r", "candidate": "c", "prompt": "secret"}')
    assert "secret" not in str(error.value)
    with pytest.raises(ValueError, match="JSON"):
        wire.decode_task(b"secret")


def test_events_are_unchanged_by_their_encoding():
    sent = [
        Preview(2, 1, PIXELS),
        FinishedImage(0, PIXELS[::2]),
        FinishedImage(1, None, "safety_checker"),
        FinishedTask(0.5, 1.5, 8),
    ]
    received = read_all(b"".join(map(wire.encode_event, sent)))
    assert [type(event) for event in received] == [type(event) for event in sent]
    np.testing.assert_array_equal(received[0].pixels, PIXELS)
    np.testing.assert_array_equal(received[1].pixels, PIXELS[::2])
    assert (received[0].index, received[0].number) == (2, 1)
    assert received[2:] == sent[2:]


@pytest.mark.parametrize(
    "failure",
    [
        failures.TaskRefused("a"),
        failures.PromptModerated("g"),
        failures.TaskFailed("b"),
        failures.GroupUnavailable("c"),
        failures.QueueFull("d"),
        failures.TaskTimedOut("e"),
        failures.TaskTimedOut("f", billed=True),
    ],
)
def test_failures_are_unchanged_by_their_encoding(failure):
    (received,) = read_all(wire.encode_event(failure))
    assert type(received) is type(failure) and str(received) == str(failure)
    assert failures.may_fall_back(received) == failures.may_fall_back(failure)


def test_only_refusals_and_billed_failures_are_final():
    final = [failures.TaskRefused(""), failures.TaskTimedOut("", billed=True)]
    assert not any(map(failures.may_fall_back, final))
    others = [failures.TaskTimedOut(""), failures.TaskFailed(""), failures.GroupUnavailable("")]
    assert all(map(failures.may_fall_back, others))


def test_a_cut_stream_raises_an_error():
    data = wire.encode_event(FinishedImage(0, PIXELS))
    for length in (2, 10, len(data) - 1):
        with pytest.raises(asyncio.IncompleteReadError):
            read_all(data[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02{}",
        b'\x00\x00\x00\x1a{"shape": [1, 9000000000]}',
        b'\x00\x00\x00\x25{"event": "preview", "shape": [0, 0]}',
        b'\x00\x00\x00\x14{"event": "failure"}',
    ],
)
def test_invalid_frames_raise_an_error(data):
    with pytest.raises(ValueError, match=r"frame|failure"):
        read_all(data + bytes(64))


def test_a_status_is_unchanged_by_its_encoding():
    loads = {"a": CandidateLoad(0.5, 0.1, 8)}
    status = GroupStatus("cpu", True, False, loads, 3, 4, 0.25, "", frozenset({"a"}))
    assert wire.decode_status(wire.encode_status(status)) == status

"""Stored images: expiry, the limit of their total size, and concurrent storage."""

from pathlib import Path

import pytest

from catimage.serving.messages import ServingError
from catimage.serving.state.store import State
from tests.serving.state.helpers import in_threads


class TestImages:
    @pytest.fixture
    def small(self, url, clock):
        """A state that stores at most 1000 bytes of images."""
        state = State.open(url, max_image_bytes=1000, clock=clock)
        yield state.images
        state.close()

    def test_an_image_is_returned_until_it_expires(self, state, clock):
        data = bytes(range(256)) * 100
        token = state.images.put(data, "image/webp", 60.0)
        assert len(token) == 32 and token.isascii()
        assert state.images.get(token) == (data, "image/webp")
        clock.now += 59.9
        assert state.images.get(token) == (data, "image/webp")
        clock.now += 0.1
        assert state.images.get(token) is None

    def test_unknown_tokens_have_no_image(self, state):
        for token in ("", "x" * 32, "../../etc/passwd", "' OR 1=1 --"):
            assert state.images.get(token) is None

    def test_expired_images_are_deleted(self, state, clock):
        tokens = [state.images.put(b"x" * 10, "image/png", seconds) for seconds in (1, 2, 100)]
        clock.now += 2
        assert state.images.total_bytes() == 30
        assert state.images.purge() == 2
        assert state.images.total_bytes() == 10
        assert state.images.get(tokens[2]) is not None

    def test_images_that_expire_first_make_room(self, small, caplog):
        late = small.put(b"a" * 400, "image/png", 100)
        early = small.put(b"b" * 400, "image/png", 50)
        new = small.put(b"c" * 400, "image/png", 10)
        assert small.get(early) is None and small.get(late) and small.get(new)
        assert "1 stored images were deleted before they expired" in caplog.text

    def test_expired_images_make_room_first(self, small, clock, caplog):
        small.put(b"a" * 900, "image/png", 1)
        clock.now += 1
        first = small.put(b"b" * 500, "image/png", 100)
        second = small.put(b"c" * 500, "image/png", 100)
        assert small.get(first) and small.get(second) and not caplog.text

    def test_an_image_larger_than_the_store_is_refused(self, small):
        kept = small.put(b"a" * 1000, "image/png", 100)
        with pytest.raises(ServingError, match=r"too large to be stored. Use b64_json"):
            small.put(b"b" * 1001, "image/png", 100)
        assert small.get(kept)

    def test_threads_never_exceed_the_total_size(self, small):
        calls = [(bytes([i]) * 300, "image/png", 100.0 + i) for i in range(24)]
        tokens = in_threads(small.put, calls)
        kept = [token for token in tokens if small.get(token)]
        assert len(set(tokens)) == 24 and len(kept) == 3 and small.total_bytes() == 900


def test_a_file_shrinks_after_its_images_have_expired(state, url, clock):
    path = Path(url.removeprefix("sqlite:///"))
    for _ in range(20):
        state.images.put(b"x" * 200_000, "image/png", 1)
    checkpoint(state)
    assert path.stat().st_size > 4_000_000
    clock.now += 1
    state.purge()
    checkpoint(state)
    assert path.stat().st_size < 400_000


def checkpoint(state):
    with state._database.engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

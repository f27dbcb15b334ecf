from __future__ import annotations

import pytest

from catimage.serving.tasks import CandidateLoad


@pytest.mark.parametrize(
    ("images", "seconds"), [(0, 0.0), (1, 1.0), (2, 4 / 3), (4, 2.0), (5, 3.0), (9, 5.0)]
)
def test_device_time_of_some_images(images: int, seconds: float) -> None:
    load = CandidateLoad(seconds=1.0, batch_seconds=0.5, batch_size=4)
    assert load.device_seconds(images) == pytest.approx(seconds)


def test_images_that_another_computer_makes_take_no_device_time() -> None:
    assert CandidateLoad(seconds=3.0, batch_seconds=0.0, batch_size=1).device_seconds(5) == 0

import numpy as np
import pytest

from catimage.errors import InputError
from catimage.metrics.metric import Metric, MetricContext, ReferenceMetric
from catimage.metrics.scoring import ImageBatch, score

N = 9


def images(n=N, size=4):
    """Image i is i all over."""
    return np.broadcast_to(
        np.arange(n, dtype=np.uint8)[:, None, None, None], (n, size, size, 3)
    ).copy()


def batch(n=N, references=None):
    return ImageBatch(
        images(n), [f"prompt {i}" for i in range(n)], [f"image {i}" for i in range(n)], references
    )


class Level(Metric):
    """The level of an image over 10, but what ``bad`` makes of it; ``asked`` counts the images."""

    name = "level"
    range = (0.0, 1.0)

    def __init__(self, bad=lambda values: values):
        super().__init__(MetricContext())
        self.bad, self.asked = bad, []

    def score(self, images, prompts):
        self.asked.append(len(images))
        return self.bad(images[:, 0, 0, 0] / 10)


def at(value, place=5):
    """Spoils the score of the image at a level."""
    return lambda values: np.where(np.isclose(values, place / 10), value, values)


def refuses(values, place=5):
    if np.isclose(values, place / 10).any():
        raise ValueError("a pixel\nof mine.")
    return values


def drops(values):
    return values[~np.isclose(values, 0.5)]


BAD = [
    (at(np.nan), "its score is nan, its range 0 to 1"),
    (at(np.inf), "its score is inf, its range 0 to 1"),
    (at(1.5), "its score is 1.5, its range 0 to 1"),
    (at(-0.5), "its score is -0.5, its range 0 to 1"),
    (refuses, "ValueError: a pixel of mine"),
    (drops, "it returned scores of shape (0,) for 1 images; return one number an image"),
]


def test_good_scores_are_passed_on_in_one_call():
    metric = Level()
    values = score(metric, batch())
    assert values.dtype == float
    assert values == pytest.approx(np.arange(N) / 10)
    assert metric.asked == [N]


def test_rounding_beyond_the_range_is_no_error():
    assert score(Level(at(1 + 1e-7)), batch())[5] == 1 + 1e-7


@pytest.mark.parametrize(("bad", "said"), BAD)
def test_stop_names_metric_and_image(bad, said):
    with pytest.raises(InputError) as error:
        score(Level(bad), batch())
    assert str(error.value) == f"metric 'level', image 5: {said}."


@pytest.mark.parametrize(("bad", "said"), BAD)
def test_skip_leaves_out_the_bad_image_alone_and_says_so(bad, said, capsys):
    values = score(Level(bad), batch(), "skip")
    assert np.isnan(values).tolist() == [i == 5 for i in range(N)]
    assert np.delete(values, 5) == pytest.approx(np.delete(np.arange(N), 5) / 10)
    assert capsys.readouterr().out == f"label: no score: metric 'level', image 5: {said}.\n"


def test_the_bad_image_is_found_by_halves():
    metric, pixels = Level(at(np.nan)), np.zeros((256, 4, 4, 3), np.uint8)
    pixels[200] = 5
    values = score(
        metric, ImageBatch(pixels, [""] * 256, [f"image {i}" for i in range(256)]), "skip"
    )
    assert np.flatnonzero(np.isnan(values)).tolist() == [200]
    assert len(metric.asked) == 1 + 2 * 8


def test_several_bad_images_and_all_of_them(capsys):
    def odd(values):
        return np.where(np.round(values * 10) % 2 == 1, np.nan, values)

    assert np.isnan(score(Level(odd), batch(), "skip")).tolist() == [i % 2 == 1 for i in range(N)]
    assert capsys.readouterr().out.count("\n") == N // 2
    assert np.isnan(score(Level(lambda v: v + np.nan), batch(), "skip")).all()


@pytest.mark.parametrize(
    ("wrong", "shape"),
    [(lambda v: v[:1], "(1,)"), (lambda v: v.mean(), "()"), (lambda v: v[:, None], "(9, 1)")],
)
def test_a_wrong_length_stops_even_where_single_images_would_do(wrong, shape):
    with pytest.raises(InputError, match="metric 'level', image 0") as error:
        score(Level(wrong), batch())
    assert shape in str(error.value) or "for 1 images" in str(error.value)


def test_what_is_no_number_at_all():
    with pytest.raises(InputError, match="metric 'level', image 0: ValueError: could not convert"):
        score(Level(lambda v: np.array(["good"] * len(v))), batch())


class Distance(ReferenceMetric):
    name = "distance"
    range = (0.0, 255.0)
    higher_is_better = False

    def score(self, images, prompts, references):
        assert images.shape == references.shape and references.dtype == np.uint8
        return np.abs(images.astype(float) - references).mean((1, 2, 3))


def test_a_reference_metric_is_given_the_references():
    assert score(
        Distance(MetricContext()), batch(references=list(images()[::-1]))
    ) == pytest.approx(np.abs(np.arange(N) - np.arange(N)[::-1]))


def test_a_missing_reference_and_one_of_another_size_are_told(capsys):
    there = list(images())
    holes = [None if i in (2, 7) else there[i] for i in range(N)]
    with pytest.raises(InputError, match="metric 'distance', image 2: there is no reference image"):
        score(Distance(MetricContext()), batch(references=holes))
    assert np.isnan(score(Distance(MetricContext()), batch(references=holes), "skip")).tolist() == [
        i in (2, 7) for i in range(N)
    ]
    other = [*there[:4], np.zeros((8, 6, 3), np.uint8), *there[5:]]
    with pytest.raises(
        InputError, match="metric 'distance', image 4: AssertionError"
    ):  # a metric says itself what it cannot compare
        score(Distance(MetricContext()), batch(references=other))
    with pytest.raises(InputError, match="metric 'distance', image 0: there is no reference image"):
        score(Distance(MetricContext()), batch())
    assert score(Level(), batch(references=holes)) == pytest.approx(np.arange(N) / 10), (
        "a metric without references needs none"
    )

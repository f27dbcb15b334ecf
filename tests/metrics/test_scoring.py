import numpy as np
import pytest

from catimage.errors import InputError
from catimage.metrics.metric import Metric, MetricContext, ReferenceMetric
from catimage.metrics.scoring import ImageBatch, score

N = 9


def images(n=N, size=4):
    """Return images of one colour; all values of image i are i."""
    return np.broadcast_to(
        np.arange(n, dtype=np.uint8)[:, None, None, None], (n, size, size, 3)
    ).copy()


def image_batch(n=N, references=None):
    return ImageBatch(
        images(n), [f"prompt {i}" for i in range(n)], [f"image {i}" for i in range(n)], references
    )


class Level(Metric):
    """A metric: the grey level of an image divided by 10, modified by the function ``change``.

    The attribute ``batches`` lists the sizes of the scored batches.
    """

    name = "level"
    range = (0.0, 1.0)

    def __init__(self, change=lambda values: values):
        super().__init__(MetricContext())
        self.change, self.batches = change, []

    def score(self, images, prompts):
        self.batches.append(len(images))
        return self.change(images[:, 0, 0, 0] / 10)


def replace_score(value, level=5):
    """Return a change that replaces the score of the images with one grey level."""
    return lambda values: np.where(np.isclose(values, level / 10), value, values)


def raise_error(values, level=5):
    if np.isclose(values, level / 10).any():
        raise ValueError("a message\non two lines.")
    return values


def drop_score(values):
    return values[~np.isclose(values, 0.5)]


OUTSIDE = "is outside the range 0 to 1. Correct the metric, or set label.on_error to skip"
FAILURES = [
    (replace_score(np.nan), f"the score nan {OUTSIDE}"),
    (replace_score(np.inf), f"the score inf {OUTSIDE}"),
    (replace_score(1.5), f"the score 1.5 {OUTSIDE}"),
    (replace_score(-0.5), f"the score -0.5 {OUTSIDE}"),
    (
        raise_error,
        "ValueError: a message on two lines. Correct the metric, or set label.on_error to skip",
    ),
    (
        drop_score,
        "the metric returned an array of shape (0,) for 1 images. Return one number per image",
    ),
]


def test_valid_scores_are_computed_in_one_call():
    metric = Level()
    values = score(metric, image_batch())
    assert values.dtype == float
    assert values == pytest.approx(np.arange(N) / 10)
    assert metric.batches == [N]


def test_rounding_errors_outside_the_range_are_accepted():
    assert score(Level(replace_score(1 + 1e-7)), image_batch())[5] == 1 + 1e-7


@pytest.mark.parametrize(("change", "message"), FAILURES)
def test_stop_raises_an_error_for_the_failing_image(change, message):
    with pytest.raises(InputError) as error:
        score(Level(change), image_batch())
    assert str(error.value) == f"label.metrics: level, image 5: {message}."


@pytest.mark.parametrize(("change", "message"), FAILURES)
def test_skip_omits_the_failing_image_and_prints_the_message(change, message, capsys):
    values = score(Level(change), image_batch(), "skip")
    assert np.isnan(values).tolist() == [i == 5 for i in range(N)]
    assert np.delete(values, 5) == pytest.approx(np.delete(np.arange(N), 5) / 10)
    printed = capsys.readouterr().out
    assert printed == f"label: no score: label.metrics: level, image 5: {message}.\n"


def test_the_failing_image_is_found_by_bisection():
    metric, pixels = Level(replace_score(np.nan)), np.zeros((256, 4, 4, 3), np.uint8)
    pixels[200] = 5
    values = score(
        metric, ImageBatch(pixels, [""] * 256, [f"image {i}" for i in range(256)]), "skip"
    )
    assert np.flatnonzero(np.isnan(values)).tolist() == [200]
    assert len(metric.batches) == 1 + 2 * 8


def test_skip_omits_several_or_all_failing_images(capsys):
    def fail_odd_levels(values):
        return np.where(np.round(values * 10) % 2 == 1, np.nan, values)

    assert np.isnan(score(Level(fail_odd_levels), image_batch(), "skip")).tolist() == [
        i % 2 == 1 for i in range(N)
    ]
    assert capsys.readouterr().out.count("\n") == N // 2
    assert np.isnan(score(Level(lambda v: v + np.nan), image_batch(), "skip")).all()


@pytest.mark.parametrize(
    ("change", "shape"),
    [(lambda v: v[:1], "(1,)"), (lambda v: v.mean(), "()"), (lambda v: v[:, None], "(9, 1)")],
)
def test_an_array_of_the_wrong_shape_is_refused(change, shape):
    with pytest.raises(InputError, match=r"label\.metrics: level, image 0") as error:
        score(Level(change), image_batch())
    assert shape in str(error.value) or "for 1 images" in str(error.value)


def test_text_instead_of_numbers_is_refused():
    with pytest.raises(
        InputError, match=r"label\.metrics: level, image 0: ValueError: could not convert"
    ):
        score(Level(lambda v: np.array(["good"] * len(v))), image_batch())


class Distance(ReferenceMetric):
    """The mean absolute difference of an image and its reference."""

    name = "distance"
    range = (0.0, 255.0)
    higher_is_better = False

    def score(self, images, prompts, references):
        assert images.shape == references.shape and references.dtype == np.uint8
        return np.abs(images.astype(float) - references).mean((1, 2, 3))


def test_a_reference_metric_receives_the_references():
    assert score(
        Distance(MetricContext()), image_batch(references=list(images()[::-1]))
    ) == pytest.approx(np.abs(np.arange(N) - np.arange(N)[::-1]))


def test_missing_references_and_references_of_another_size_are_refused(capsys):
    complete = list(images())
    incomplete = [None if i in (2, 7) else complete[i] for i in range(N)]
    with pytest.raises(
        InputError, match=r"label\.metrics: distance, image 2: the reference image is missing"
    ):
        score(Distance(MetricContext()), image_batch(references=incomplete))
    assert np.isnan(
        score(Distance(MetricContext()), image_batch(references=incomplete), "skip")
    ).tolist() == [i in (2, 7) for i in range(N)]
    with_another_size = [*complete[:4], np.zeros((8, 6, 3), np.uint8), *complete[5:]]
    with pytest.raises(
        InputError, match=r"label\.metrics: distance, image 4: AssertionError"
    ):  # the assertion of the metric fails
        score(Distance(MetricContext()), image_batch(references=with_another_size))
    with pytest.raises(
        InputError, match=r"label\.metrics: distance, image 0: the reference image is missing"
    ):
        score(Distance(MetricContext()), image_batch())
    assert score(Level(), image_batch(references=incomplete)) == pytest.approx(np.arange(N) / 10), (
        "a metric without references ignores them"
    )

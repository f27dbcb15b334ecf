import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.errors import InputError
from catimage.metrics.composite import Composite
from catimage.metrics.metric import Metric, ReferenceMetric
from catimage.metrics.registry import declaration, lower_is_better, required_metrics
from catimage.params import CompositeParams, LabelParams, parse_params


class Up(Metric):
    """A bounded metric, higher is better."""

    name = "up"
    range = (0.0, 10.0)


class Down(ReferenceMetric):
    """A metric with a reference image, lower is better."""

    name = "down"
    range = (-1.0, 1.0)
    higher_is_better = False


class Unbounded(Metric):
    """A metric without an upper bound."""

    name = "unbounded"
    range = (0.0, float("inf"))


CLASSES = {"up": Up, "down": Down, "unbounded": Unbounded}
NUMBERS = st.floats(-20, 20)
WEIGHTS = st.floats(0.01, 100)


def composite(kind="sum", **terms):
    return Composite(
        "both", CompositeParams.model_validate({"kind": kind, "terms": terms}), CLASSES.__getitem__
    )


def combine(metric, **values):
    return metric.combine({name: np.array(v, float) for name, v in values.items()})


def test_a_sum_is_the_weighted_mean_of_the_scaled_scores():
    metric = composite(up={"weight": 3}, down={})
    assert combine(metric, up=[0, 5, 10, 2], down=[1, 0, -1, 0.5]) == pytest.approx(
        [0, 0.5, 1, (3 * 0.2 + 0.25) / 4]
    )


def test_a_product_is_the_weighted_geometric_mean():
    metric = composite("product", up={"weight": 2}, down={"weight": 1})
    values = combine(metric, up=[8, 0, 10, 10], down=[0, -1, 1, -1])
    assert values == pytest.approx([np.exp((2 * np.log(0.8) + np.log(0.5)) / 3), 0, 0, 1])


def test_scores_outside_the_scale_are_clipped_to_0_and_1():
    metric = composite(unbounded={"scale": [2, 4]})
    assert combine(metric, unbounded=[0, 2, 3, 4, 100]) == pytest.approx([0, 0, 0.5, 1, 1])


def test_the_score_is_missing_if_the_score_of_a_term_is_missing():
    for kind in ("sum", "product"):
        assert np.isnan(
            combine(composite(kind, up={}, down={}), up=[0, 1], down=[np.nan, 1])
        ).tolist() == [True, False]


@given(NUMBERS, NUMBERS, NUMBERS, WEIGHTS, WEIGHTS, st.sampled_from(["sum", "product"]))
def test_a_composite_lies_in_0_to_1_and_improves_with_each_term(up, down, step, w, v, kind):
    metric = composite(kind, up={"weight": w}, down={"weight": v})
    base, higher_up, higher_down = combine(
        metric, up=[up, up + abs(step), up], down=[down, down, down + abs(step)]
    )
    assert 0 <= base <= 1
    assert higher_up >= base - 1e-12
    assert higher_down <= base + 1e-12


@given(
    NUMBERS, NUMBERS, WEIGHTS, WEIGHTS, st.floats(0.01, 100), st.sampled_from(["sum", "product"])
)
def test_weights_are_relative(up, down, w, v, factor, kind):
    one, other = (
        composite(kind, up={"weight": w * f}, down={"weight": v * f}) for f in (1, factor)
    )
    assert combine(one, up=[up], down=[down]) == pytest.approx(
        combine(other, up=[up], down=[down]), abs=1e-9
    )


def test_a_composite_declares_range_direction_and_need_of_a_reference():
    metric = composite(up={}, down={})
    assert (metric.terms, metric.range, metric.higher_is_better, metric.needs_reference) == (
        ["up", "down"],
        (0.0, 1.0),
        True,
        True,
    )
    assert not composite(up={}).needs_reference


def test_the_version_depends_on_the_definition_and_the_versions_of_the_terms():
    plain = composite(up={}, down={}).version({"up": "1", "down": "1"})
    others = [
        composite(up={}, down={}).version({"up": "1", "down": "2"}),
        composite(up={"weight": 2}, down={}).version({"up": "1", "down": "1"}),
        composite(up={"scale": [0, 9]}, down={}).version({"up": "1", "down": "1"}),
        composite("product", up={}, down={}).version({"up": "1", "down": "1"}),
    ]
    assert len({plain, *others}) == 5
    assert composite(up={}, down={}).version({"up": "1", "down": "1", "more": "7"}) == plain


def label_of(composites) -> LabelParams:
    return parse_params({"label": {"composites": composites}}, "params.yaml").label


def test_composites_of_the_label_section_are_found_by_name():
    label = label_of({"both": {"terms": {"sharpness": {}, "clip_score": {}}}})
    assert isinstance(declaration("both", label), Composite)
    assert not lower_is_better("both", label)
    assert required_metrics(["sharpness", "both", "scene_faithfulness"], label) == [
        "sharpness",
        "clip_score",
        "scene_faithfulness",
    ]


@pytest.mark.parametrize(
    ("composites", "message"),
    [
        (
            {"both": {"terms": {"sharpnes": {}}}},
            (
                r"composites.both.terms: metric 'sharpnes': unknown metric .did you mean"
                r" 'sharpness'"
            ),
        ),
        (
            {"both": {"terms": {"other": {}}}, "other": {"terms": {"sharpness": {}}}},
            "composites.both.terms.other: a composite cannot be a term. List the terms of 'other'",
        ),
        (
            {"both": {"terms": {"both": {}}}},
            "composites.both.terms.both: a composite cannot be a term. List the terms of 'both'",
        ),
    ],
)
def test_unknown_and_nested_terms_are_refused(composites, message):
    for query in (
        lambda label: declaration("both", label),
        lambda label: required_metrics(["both"], label),
        lambda label: lower_is_better("both", label),
    ):
        with pytest.raises(InputError, match=message):
            query(label_of(composites))


def test_a_composite_with_the_name_of_a_metric_is_refused():
    with pytest.raises(InputError, match=r"label\.composites\.sharpness: a metric has this name"):
        declaration("sharpness", label_of({"sharpness": {"terms": {"clip_score": {}}}}))


def test_an_unbounded_term_needs_a_scale(monkeypatch):
    monkeypatch.setattr("catimage.metrics.registry.METRICS", {"unbounded": f"{__name__}:Unbounded"})
    with pytest.raises(
        InputError,
        match=(
            r"^params.yaml: label.composites.mean.terms.unbounded: the range of the metric is"
            r" unbounded\. Set 'scale' to the two scores that count as 0 and 1\.$"
        ),
    ):
        declaration("mean", label_of({"mean": {"terms": {"unbounded": {}}}}))
    scaled = label_of({"mean": {"terms": {"unbounded": {"scale": [0, 2]}}}})
    assert declaration("mean", scaled).range == (0.0, 1.0)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"terms": {}}, "label.composites.mean.terms"),
        ({"terms": {"up": {"weight": 0}}}, "label.composites.mean.terms.up.weight"),
        ({"terms": {"up": {"scale": [2, 1]}}}, "must be two numbers in ascending order"),
        ({"terms": {"up": {}}, "kind": "mean"}, "label.composites.mean.kind"),
        ({"terms": {"up": {"wieght": 1}}}, "unknown key 'label.composites.mean.terms.up.wieght'"),
    ],
)
def test_an_invalid_definition_is_refused(definition, message):
    with pytest.raises(InputError, match=message):
        label_of({"mean": definition})

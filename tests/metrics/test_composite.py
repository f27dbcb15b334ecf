import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.errors import InputError
from catimage.metrics import declaration, lower_is_better, needed
from catimage.metrics.composite import Composite
from catimage.metrics.metric import Metric, ReferenceMetric
from catimage.params import CompositeParams, Params, parse_params


class Up(Metric):
    name = "up"
    range = (0.0, 10.0)


class Down(ReferenceMetric):
    name = "down"
    range = (-1.0, 1.0)
    higher_is_better = False


class Open(Metric):
    name = "open"
    range = (0.0, float("inf"))


KNOWN = {"up": Up, "down": Down, "open": Open}
NUMBERS = st.floats(-20, 20)
WEIGHTS = st.floats(0.01, 100)


def composite(kind="sum", **terms):
    return Composite(
        "both", CompositeParams.model_validate({"kind": kind, "terms": terms}), KNOWN.__getitem__
    )


def of(made, **values):
    return made.combine({name: np.array(v, float) for name, v in values.items()})


def test_a_sum_is_the_weighted_mean_of_what_is_scaled_and_turned():
    made = composite(up={"weight": 3}, down={})
    assert of(made, up=[0, 5, 10, 2], down=[1, 0, -1, 0.5]) == pytest.approx(
        [0, 0.5, 1, (3 * 0.2 + 0.25) / 4]
    )


def test_a_product_is_the_weighted_geometric_mean():
    made = composite("product", up={"weight": 2}, down={"weight": 1})
    values = of(made, up=[8, 0, 10, 10], down=[0, -1, 1, -1])
    assert values == pytest.approx([np.exp((2 * np.log(0.8) + np.log(0.5)) / 3), 0, 0, 1])


def test_a_scale_says_what_counts_as_0_and_1_and_what_is_beyond_is_cut_off():
    made = composite(open={"scale": [2, 4]})
    assert of(made, open=[0, 2, 3, 4, 100]) == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_hole_in_a_term_is_a_hole():
    for kind in ("sum", "product"):
        assert np.isnan(
            of(composite(kind, up={}, down={}), up=[0, 1], down=[np.nan, 1])
        ).tolist() == [True, False]


@given(NUMBERS, NUMBERS, NUMBERS, WEIGHTS, WEIGHTS, st.sampled_from(["sum", "product"]))
def test_it_is_in_0_to_1_and_better_where_a_term_is(up, down, step, w, v, kind):
    made = composite(kind, up={"weight": w}, down={"weight": v})
    here, more_up, more_down = of(
        made, up=[up, up + abs(step), up], down=[down, down, down + abs(step)]
    )
    assert 0 <= here <= 1
    assert more_up >= here - 1e-12
    assert more_down <= here + 1e-12


@given(
    NUMBERS, NUMBERS, WEIGHTS, WEIGHTS, st.floats(0.01, 100), st.sampled_from(["sum", "product"])
)
def test_weights_have_no_scale(up, down, w, v, factor, kind):
    one, other = (
        composite(kind, up={"weight": w * f}, down={"weight": v * f}) for f in (1, factor)
    )
    assert of(one, up=[up], down=[down]) == pytest.approx(of(other, up=[up], down=[down]), abs=1e-9)


def test_it_declares_what_a_metric_does():
    made = composite(up={}, down={})
    assert (made.terms, made.range, made.higher_is_better, made.needs_reference) == (
        ["up", "down"],
        (0.0, 1.0),
        True,
        True,
    )
    assert not composite(up={}).needs_reference


def test_its_version_is_of_definition_and_terms():
    plain = composite(up={}, down={}).version({"up": "1", "down": "1"})
    others = [
        composite(up={}, down={}).version({"up": "1", "down": "2"}),
        composite(up={"weight": 2}, down={}).version({"up": "1", "down": "1"}),
        composite(up={"scale": [0, 9]}, down={}).version({"up": "1", "down": "1"}),
        composite("product", up={}, down={}).version({"up": "1", "down": "1"}),
    ]
    assert len({plain, *others}) == 5
    assert composite(up={}, down={}).version({"up": "1", "down": "1", "more": "7"}) == plain


def of_params(composites, **label) -> Params:
    return parse_params({"label": {"composites": composites, **label}}, "params.yaml")


def test_parameters_name_it_like_a_metric():
    params = of_params({"both": {"terms": {"sharpness": {}, "clip_score": {}}}})
    assert isinstance(declaration("both", params), Composite)
    assert not lower_is_better("both", params)
    assert needed(["sharpness", "both", "scene_faithfulness"], params) == [
        "sharpness",
        "clip_score",
        "scene_faithfulness",
    ]


@pytest.mark.parametrize(
    ("composites", "said"),
    [
        (
            {"both": {"terms": {"sharpnes": {}}}},
            (
                r"composites.both.terms: metric 'sharpnes': there is no such metric .did you mean"
                r" 'sharpness'"
            ),
        ),
        (
            {"both": {"terms": {"other": {}}}, "other": {"terms": {"sharpness": {}}}},
            "composites.both.terms.other: is a composite itself",
        ),
        ({"both": {"terms": {"both": {}}}}, "composites.both.terms.both: is a composite itself"),
    ],
)
def test_terms_that_are_none_are_told(composites, said):
    for ask in (
        lambda p: declaration("both", p),
        lambda p: needed(["both"], p),
        lambda p: lower_is_better("both", p),
    ):
        with pytest.raises(InputError, match=said):
            ask(of_params(composites))


def test_a_name_that_is_taken_is_told():
    with pytest.raises(
        InputError, match=r"label\.composites\.sharpness: there is a metric of that name"
    ):
        declaration("sharpness", of_params({"sharpness": {"terms": {"clip_score": {}}}}))


def test_an_unbounded_term_needs_a_scale(monkeypatch):
    monkeypatch.setattr("catimage.metrics.METRICS", {"open": f"{__name__}:Open"})
    with pytest.raises(
        InputError,
        match=(
            r"^params.yaml: label.composites.it.terms.open: the metric's range is unbounded; say .*"
            r" 'scale'.$"
        ),
    ):
        declaration("it", of_params({"it": {"terms": {"open": {}}}}))
    assert declaration("it", of_params({"it": {"terms": {"open": {"scale": [0, 2]}}}})).range == (
        0.0,
        1.0,
    )


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"terms": {}}, "label.composites.it.terms"),
        ({"terms": {"up": {"weight": 0}}}, "label.composites.it.terms.up.weight"),
        ({"terms": {"up": {"scale": [2, 1]}}}, "must be two numbers, the lower one first"),
        ({"terms": {"up": {}}, "kind": "mean"}, "label.composites.it.kind"),
        ({"terms": {"up": {"wieght": 1}}}, "unknown key 'label.composites.it.terms.up.wieght'"),
    ],
)
def test_a_definition_that_is_wrong_is_told(definition, said):
    with pytest.raises(InputError, match=said):
        of_params({"it": definition})

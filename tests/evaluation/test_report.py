import re
from html.parser import HTMLParser

import numpy as np
import pytest

from catimage.estimators.knn import CosineKNNRegressor
from catimage.evaluation.cases import case_samples, cases_document
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import Pool
from catimage.evaluation.plots import figures
from catimage.evaluation.report import fit_table, report
from catimage.evaluation.samples import data_uri, samples, telling_prompts
from catimage.evaluation.selection import selection_table
from catimage.evaluation.subsets import subsets_document
from catimage.evaluation.trials import Lesson, trials_document
from catimage.routing.policy import choose
from tests.evaluation.worlds import COST, NAMES

PNG = b"\x89PNG\r\n\x1a\n and the rest"


class Balanced(HTMLParser):
    """Fails on tags that do not nest."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, page):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(document, world, drawn, prompt="a cat", images=None, **kinds):
    predicted = world.predictions["good"][1]
    rows = telling_prompts(predicted, COST, 2)
    pool = Pool(NAMES, COST, "seconds")
    shown = samples(
        rows,
        [prompt] * 300,
        predicted,
        world.test,
        pool,
        choose(predicted, COST, 0.01),
        images or {},
    )
    return report(
        document, drawn, fit_table(predicted, world.test, NAMES), {"samples": shown, **kinds}
    )


def test_the_page_holds_together_and_needs_nothing_else(document, world, drawn):
    page = page_of(document, world, drawn)
    parsed = Balanced(page)
    assert not parsed.open and parsed.seen.count("img") == 3 and parsed.seen.count("table") == 6
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page) and "http" not in re.sub(
        r"base64,[^\"]+", "", page
    )
    assert "The router gains +" in page and "of a budget of 6 seconds" in page
    assert all(f"<td>{name}</td>" in page for name in NAMES)


def test_nothing_significant_is_said(blind_document, world, drawn):
    page = page_of(blind_document, world, drawn)
    assert (
        "gains nothing significant over the best fixed candidate" in page
        and 'class="better"' not in page.split('id="tables"')[1].split("(Table 3)")[0]
    )


def test_prompts_and_names_are_escaped(document, world, drawn):
    evil = "<script>alert('x')</script> & \"more\""
    page = page_of(document | {"metric": "<i>m</i>"}, world, drawn, evil)
    assert "<script>" not in page and "&lt;script&gt;" in page and "<i>m" not in page
    Balanced(page)


def test_images_are_inlined_where_there_are_any(document, world, drawn):
    predicted = world.predictions["good"][1]
    row = int(telling_prompts(predicted, COST, 2)[0])
    page = page_of(document, world, drawn, images={(row, "cheap"): PNG})
    assert Balanced(page).seen.count("img") == 4 and data_uri(PNG) in page


def test_other_metrics_have_a_section(document, world, drawn):
    both = document | {
        "by_metric": {
            **document["by_metric"],
            "sharpness": document["by_metric"]["quality"] | {"lower_is_better": True},
        }
    }
    assert "Trained on sharpness (negated)" in page_of(
        both, world, drawn
    ) and "Trained on" not in page_of(document, world, drawn)


def test_telling_prompts_run_from_least_to_most_worth_of_spending():
    predicted = np.array([[0.5, 0.9], [0.5, 0.1], [0.5, 0.6], [0.5, 0.5]])
    assert telling_prompts(predicted, np.array([1.0, 2.0]), 3).tolist() in ([1, 3, 0], [1, 2, 0])
    assert telling_prompts(predicted, np.array([2.0, 1.0]), 9).tolist() == [0, 2, 3, 1]
    assert telling_prompts(predicted[:1], np.array([1.0, 2.0])).tolist() == [0]


def test_samples_span_the_costs_and_mark_the_choice():
    m = 20
    predicted = np.zeros((1, m))
    predicted[0, 5] = 1.0
    pool = Pool([f"c{i}" for i in range(m)], np.arange(1.0, m + 1), "s")
    (sample,) = samples(
        np.array([0]), ["p"], predicted, predicted + 2, pool, np.array([5]), {(0, "c5"): PNG}
    )
    names = [cell.candidate for cell in sample.cells]
    assert (
        names[0] == "c0"
        and names[-1] == "c19"
        and 8 <= len(names) <= 9
        and names == sorted(names, key=lambda n: int(n[1:]))
    )
    (chosen,) = [cell for cell in sample.cells if cell.chosen]
    assert (
        chosen.candidate == "c5"
        and chosen.image == data_uri(PNG)
        and chosen.predicted == 1
        and chosen.measured == 3
    )


@pytest.mark.parametrize(
    ("image", "kind"), [(PNG, "png"), (b"RIFF....WEBPVP8L", "webp"), (b"\xff\xd8\xff", "jpeg")]
)
def test_data_uri_names_the_kind(image, kind):
    assert data_uri(image).startswith(f"data:image/{kind};base64,") and data_uri(None) == ""


def test_fit_table_in_closed_form():
    labels = np.array([[0.0, 1.0], [2.0, 1.0]])
    good, constant = fit_table(np.array([[1.0, 3.0], [3.0, 3.0]]), labels, ["a", "b"])
    assert good == {
        "candidate": "a",
        "error": 1.0,
        "error_of_mean": 1.0,
        "correlation": pytest.approx(1),
    }
    assert constant == {"candidate": "b", "error": 2.0, "error_of_mean": 0.0, "correlation": None}
    tenth, varied = (
        np.full((7, 1), 0.1),
        np.arange(7.0)[:, None],
    )  # whose standard deviation is 1e-17
    assert (
        fit_table(tenth, varied, ["a"])[0]["correlation"] is None
        and fit_table(varied, tenth, ["a"])[0]["correlation"] is None
    )


def sets_of(names):
    rows = [
        {
            "candidate": n,
            "cost": float(c),
            "value": 3.0,
            "se": 0.5,
            "selected_cost": float(c),
            "selected": {"value": 2.0, "se": 0.5},
        }
        | {"gain": 1.0, "interval": [0.5, 1.5]}
        for n, c in zip(NAMES, COST, strict=True)
    ]
    budget = {
        "cost": 5.0,
        "value": 2.0,
        "se": 0.5,
        "best_fixed": {
            "candidate": "cheap",
            "value": 3.0,
            "se": 0.5,
            "gain": 1,
            "interval": [0, 2],
        },
    }
    metric = {
        "higher_is_better": False,
        "real": {"value": 1.0, "se": 0.1},
        "budget": budget,
        "by_candidate": rows,
    }
    whole = {
        "n_prompts": 30,
        "n_images": 60,
        "references": "a folder",
        "left_out": ["fid: no weights."],
    }
    return whole | {"metrics": dict.fromkeys(names, metric)}


def test_sets_have_a_section_and_a_figure(document, world):
    predicted = world.predictions["good"][1]
    both = document | {"sets": sets_of(["fid_tiny", "kid_tiny"])}
    drawn = figures(both, selection_table(predicted, COST, NAMES), predicted, world.test)
    page = page_of(both, world, drawn)
    assert Balanced(page).seen.count("img") == 4 and page.count("fid_tiny (lower is better)") == 2
    assert "Left out: fid: no weights." in page and "nothing significant; other real images" in page
    none = page_of(
        document | {"sets": sets_of([])}, world, {k: v for k, v in drawn.items() if k != "sets"}
    )
    assert "Left out: fid: no weights." in none and Balanced(none).seen.count("img") == 3


def test_trials_noise_subsets_and_cases_have_sections(document, world):
    predicted = world.predictions["good"][1]
    pool = Pool(NAMES, COST, "seconds")
    wide = Pool([*NAMES, "dearest"], np.append(COST, 20.0), "seconds", ("g", "g", "g", "other"))
    pairs = zip(world.predictions["good"], (world.validation, world.test), strict=True)
    splits = [tuple(np.c_[y, y[:, 2] + 0.01] for y in pair) for pair in pairs]
    bootstrap = PairedBootstrap(300, 200, 0)
    picked, ids = choose(predicted, COST, 0.01), [f"id {i}" for i in range(300)]
    cases = cases_document(picked, 0.01, predicted, world.test, pool, "middle", ids, bootstrap)
    places = {f"id {i}": (i, f"prompt number {i}") for i in range(300)}
    lesson = Lesson(
        CosineKNNRegressor(),
        (predicted,) * 3,
        np.repeat(world.test[:, :, None], 2, axis=2),
        world.test,
        world.test,
        COST,
    )
    trials = {"estimator": "knn", "n_neighbors": 5, "left_out": [3]} | trials_document(
        lesson, NAMES, [1], 4, 0
    )
    whole = document | {
        "cases": cases,
        "trials": trials,
        "subsets": subsets_document(*splits, wide, bootstrap),
    }
    drawn = figures(whole, selection_table(predicted, COST, NAMES), predicted, world.test)
    assert "g alone" in drawn["subsets"] and "whole pool" in drawn["subsets"]
    kinds = {
        kind: case_samples(cases[kind], "middle", places, predicted, world.test, pool, {})
        for kind in ("successes", "failures")
    }
    page = page_of(whole, world, drawn, **kinds)
    assert not Balanced(page).open
    for section in ("trials", "noise", "subsets", "cases"):
        assert page.count(f'<section id="{section}">') == 1
    assert (
        "There are too few seeds for S = 3." in page
        and "<h3>Successes</h3>" in page
        and "<h3>Failures</h3>" in page
    )
    assert all(
        f"prompt number {case['prompt_id'][3:]}" in page for kind in kinds for case in cases[kind]
    )
    assert (
        page.count("The router itself: 3.1e-05 TFLOPs") == page.count("<table>") - 1
    )  # but for the errors of prediction


def test_the_best_of_table_2_is_bold_and_the_others_are_not(document, world, drawn):
    table = page_of(document, world, drawn).split('id="tables"')[1].split("(Table 3)")[0]
    bold = re.findall(r"<b>([0-9.]+)</b>", table)
    assert bold and set(bold) == {f"{document['methods']['good']['max_quality']:.4g}"}

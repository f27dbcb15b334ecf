import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from catimage.data.dataset import Candidates
from catimage.estimators.knn import CosineKNNRegressor
from catimage.evaluation.cases import case_samples, cases_document
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.plots import draw_figures
from catimage.evaluation.report import ReportPrompts, error_rows, render_report
from catimage.evaluation.samples import PromptResults, contrasting_prompts, data_uri, samples
from catimage.evaluation.subsets import subsets_document
from catimage.evaluation.trials.document import trials_document
from catimage.evaluation.trials.draws import TrialData
from catimage.routing.policy import choose
from tests.evaluation.synthetic import COST, NAMES

PNG = b"\x89PNG\r\n\x1a\n and the rest"


class BalancedParser(HTMLParser):
    """A parser that fails if tags are not correctly nested."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, page):
        super().__init__()
        self.open_tags, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag


@pytest.fixture(scope="module")
def render(results, svg_by_name):
    """Return a function that renders a document with two sample prompts."""

    def page_of(document, figures=svg_by_name, prompt="a cat", images=None, **cases):
        shown = replace(results, texts=[prompt] * 300)
        rows = contrasting_prompts(results.predicted, COST, 2)
        picked = choose(results.predicted, COST, 0.01)
        prompts = ReportPrompts(samples(rows, shown, picked, images or {}), **cases)
        return render_report(document, figures, error_rows(results), prompts)

    return page_of


def test_the_page_is_well_formed_and_self_contained(document, render):
    page = render(document)
    parsed = BalancedParser(page)
    assert not parsed.open_tags
    assert parsed.tags.count("img") == 3
    assert parsed.tags.count("table") == 6
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)
    assert "The router gains +" in page
    assert "of a budget of 6 seconds" in page
    assert all(f"<td>{name}</td>" in page for name in NAMES)


def test_insignificant_gains_are_marked(constant_document, render):
    page = render(constant_document)
    assert "has no significant gain over the best fixed candidate" in page
    assert 'class="better"' not in page.split('id="tables"')[1].split("(Table 3 of")[0]


def test_prompts_and_names_are_escaped(document, render):
    prompt = "<script>alert('x')</script> & \"more\""
    page = render(document | {"metric": "<i>m</i>"}, prompt=prompt)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<i>m" not in page
    BalancedParser(page)


def test_images_are_embedded(document, results, render):
    row = int(contrasting_prompts(results.predicted, COST, 2)[0])
    page = render(document, images={(results.ids[row], "cheap"): PNG})
    assert BalancedParser(page).tags.count("img") == 4
    assert data_uri(PNG) in page


def test_each_other_metric_has_a_section(document, render):
    sharpness = document["by_metric"]["quality"] | {"lower_is_better": True}
    both = document | {"by_metric": {**document["by_metric"], "sharpness": sharpness}}
    assert "Estimators of sharpness (negated)" in render(both)
    assert "Estimators of" not in render(document)


def test_prediction_errors_agree_with_a_closed_form():
    def rows_of(predicted, labels):
        names = ["a", "b"][: labels.shape[1]]
        candidates = Candidates(names, np.ones(len(names)), "s")
        blank = [""] * len(labels)
        return error_rows(PromptResults(blank, blank, predicted, labels, candidates))

    labels = np.array([[0.0, 1.0], [2.0, 1.0]])
    good, constant = rows_of(np.array([[1.0, 3.0], [3.0, 3.0]]), labels)
    assert good == {
        "candidate": "a",
        "error": 1.0,
        "error_of_mean": 1.0,
        "correlation": pytest.approx(1),
    }
    assert constant == {"candidate": "b", "error": 2.0, "error_of_mean": 0.0, "correlation": None}
    tenth = np.full((7, 1), 0.1)  # its computed standard deviation is 1e-17
    varied = np.arange(7.0)[:, None]
    assert rows_of(tenth, varied)[0]["correlation"] is None
    assert rows_of(varied, tenth)[0]["correlation"] is None


def image_sets(names):
    """Return the key ``sets`` of ``metrics.json`` with the same statistics for every metric."""
    rows = [
        {
            "candidate": name,
            "cost": float(cost),
            "value": 3.0,
            "se": 0.5,
            "selected_cost": float(cost),
            "selected": {"value": 2.0, "se": 0.5},
            "gain": 1.0,
            "interval": [0.5, 1.5],
        }
        for name, cost in zip(NAMES, COST, strict=True)
    ]
    fixed = {"candidate": "cheap", "value": 3.0, "se": 0.5, "gain": 1, "interval": [0, 2]}
    metric = {
        "higher_is_better": False,
        "real": {"value": 1.0, "se": 0.1},
        "budget": {"cost": 5.0, "value": 2.0, "se": 0.5, "best_fixed": fixed},
        "by_candidate": rows,
    }
    return {
        "n_prompts": 30,
        "n_images": 60,
        "references": "a folder",
        "left_out": ["fid: no weights."],
        "metrics": dict.fromkeys(names, metric),
    }


def test_set_metrics_have_a_section_and_a_figure(document, selection, results, render):
    both = document | {"sets": image_sets(["fid_tiny", "kid_tiny"])}
    svg_by_name = draw_figures(both, selection, results)
    page = render(both, svg_by_name)
    assert BalancedParser(page).tags.count("img") == 4
    assert page.count("fid_tiny (lower is better)") == 2
    assert "Left out: fid: no weights." in page
    assert "nothing significant; a second set of real images: " in page
    without = {name: svg for name, svg in svg_by_name.items() if name != "sets"}
    page = render(document | {"sets": image_sets([])}, without)
    assert "Left out: fid: no weights." in page
    assert BalancedParser(page).tags.count("img") == 3


def optional_parts(data, results):
    """Return the keys ``cases``, ``trials`` and ``subsets`` of ``metrics.json``."""
    bootstrap, test = PairedBootstrap(300, 200, 0), data.test
    picked = choose(results.predicted, COST, 0.01)
    features, by_seed = (results.predicted,) * 3, np.repeat(test[:, :, None], 2, axis=2)
    trial_data = TrialData(CosineKNNRegressor(), features, by_seed, test, test, COST)
    trials = trials_document(trial_data, NAMES, [1], 4, 0)
    pairs = zip(data.predictions["good"], (data.validation, test), strict=True)
    splits = [tuple(np.c_[y, y[:, 2] + 0.01] for y in pair) for pair in pairs]
    wide = Candidates(
        [*NAMES, "most expensive"], np.append(COST, 20.0), "seconds", ("g", "g", "g", "other")
    )
    return {
        "cases": cases_document(results, picked, 0.01, "middle", bootstrap),
        "trials": {"estimator": "knn", "n_neighbors": 5, "left_out": [3]} | trials,
        "subsets": subsets_document(*splits, wide, bootstrap),
    }


def test_trials_noise_subsets_and_cases_have_sections(document, data, selection, results, render):
    full_document = document | optional_parts(data, results)
    cases = full_document["cases"]
    svg_by_name = draw_figures(full_document, selection, results)
    assert "g alone" in svg_by_name["subsets"]
    assert "whole pool" in svg_by_name["subsets"]
    shown = {
        kind: case_samples(cases[kind], "middle", results, {}) for kind in ("successes", "failures")
    }
    page = render(full_document, svg_by_name, **shown)
    assert not BalancedParser(page).open_tags
    for section in ("trials", "noise", "subsets", "cases"):
        assert page.count(f'<section id="{section}">') == 1
    assert "There are too few seeds for S = 3." in page
    assert "<h3>Successes</h3>" in page
    assert "<h3>Failures</h3>" in page
    listed = [case for kind in shown for case in cases[kind]]
    assert all(f"prompt number {case['prompt_id'][3:]}" in page for case in listed)
    # Every table of this page except that of the prediction errors ends with the decision cost.
    assert page.count("The router itself: 3.1e-05 TFLOPs") == page.count("<table>") - 1


def test_only_the_best_value_of_table_2_is_bold(document, render):
    table = render(document).split('id="tables"')[1].split("(Table 3 of")[0]
    bold = re.findall(r"<b>([0-9.]+)</b>", table)
    assert bold
    assert set(bold) == {f"{document['methods']['good']['max_quality']:.4g}"}

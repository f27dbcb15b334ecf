import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np

from catimage.data.dataset import Candidates
from catimage.evaluation.plots import deferral_table, draw_figures
from catimage.evaluation.samples import PromptResults
from catimage.evaluation.selection import selection_table


def test_the_deferral_table_has_the_curves_of_the_document(document):
    frame = deferral_table(document)
    assert list(frame.columns) == ["method", "cost", "quality", "lambda"]
    rows = frame[frame["method"] == "good"].drop(columns="method").to_numpy().tolist()
    assert rows == document["methods"]["good"]["curve"]
    assert frame.loc[frame["method"] == "fixed", "lambda"].isna().all()


def test_figures_are_self_contained_and_reproducible_svg_files(
    document, selection, results, svg_by_name
):
    assert set(svg_by_name) == {"deferral", "selection", "predicted"}
    for svg in svg_by_name.values():
        root = ET.fromstring(svg)
        links = [
            value
            for element in root.iter()
            for key, value in element.attrib.items()
            if key.endswith("href")
        ]
        assert all(link.startswith(("#", "data:")) for link in links)
    assert "mean quality" in svg_by_name["deferral"]
    assert "cost (seconds)" in svg_by_name["deferral"]
    assert svg_by_name == draw_figures(document, selection, results)


def test_names_with_special_characters_and_equal_costs_are_drawn(document, results):
    names = ["_hidden", "$x$", "<b>&amp;"]
    rows = [
        row | {"candidate": name, "cost": 0.0}
        for row, name in zip(document["candidates"], names, strict=True)
    ]
    candidates = Candidates(names, np.ones(3), "seconds")
    renamed = replace(results, predicted=results.labels, candidates=candidates)
    selection = selection_table(renamed.predicted, candidates)
    svg_by_name = draw_figures(document | {"candidates": rows}, selection, renamed)
    text = "".join(ET.fromstring(svg_by_name["selection"]).itertext())
    assert all(name in text.replace("\u200b", "") for name in names)


def test_many_candidates_are_drawn_in_twelve_panels(document):
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(16)]
    candidates = Candidates(names, np.arange(1.0, 17.0), "s")
    predicted = rng.random((40, 16))
    rows = [
        {"candidate": name, "cost": cost, "quality": 0.5, "se": 0.1}
        for name, cost in zip(names, candidates.costs, strict=True)
    ]
    results = PromptResults([""] * 40, [""] * 40, predicted, predicted, candidates)
    selection = selection_table(predicted, candidates)
    svg_by_name = draw_figures(document | {"candidates": rows}, selection, results)
    labels = "".join(ET.fromstring(svg_by_name["predicted"]).itertext()).split()
    assert sum(name in labels for name in names) == 12
    assert "c0" in labels
    assert "c15" in labels

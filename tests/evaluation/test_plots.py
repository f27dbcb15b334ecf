import xml.etree.ElementTree as ET

import numpy as np

from catimage.evaluation.plots import deferral_table, figures
from catimage.evaluation.selection import selection_table
from tests.evaluation.worlds import COST, NAMES


def test_deferral_table_is_the_documents_curves(document):
    frame = deferral_table(document)
    assert list(frame.columns) == ["method", "cost", "quality", "lambda"]
    rows = frame[frame["method"] == "good"].drop(columns="method").to_numpy().tolist()
    assert rows == document["methods"]["good"]["curve"]
    assert frame.loc[frame["method"] == "fixed", "lambda"].isna().all()


def test_figures_are_svg_with_nothing_from_outside_and_repeatable(document, world, drawn):
    predicted = world.predictions["good"][1]
    selection = selection_table(predicted, COST, NAMES)
    assert set(drawn) == {"deferral", "selection", "predicted"}
    for svg in drawn.values():
        root = ET.fromstring(svg)
        links = [
            value
            for element in root.iter()
            for key, value in element.attrib.items()
            if key.endswith("href")
        ]
        assert all(link.startswith(("#", "data:")) for link in links)
    assert "mean quality" in drawn["deferral"] and "cost (seconds)" in drawn["deferral"]
    assert drawn == figures(document, selection, predicted, world.test)


def test_odd_names_and_constant_costs_are_drawn(document, world):
    names = ["_hidden", "$x$", "<b>&amp;"]
    rows = [
        row | {"candidate": name, "cost": 0.0}
        for row, name in zip(document["candidates"], names, strict=True)
    ]
    odd = document | {"candidates": rows}
    predicted = world.test
    drawn = figures(odd, selection_table(predicted, np.ones(3), names), predicted, world.test)
    text = "".join(ET.fromstring(drawn["selection"]).itertext())
    assert all(name in text.replace("\u200b", "") for name in names)


def test_many_candidates_make_twelve_panels(document):
    rng = np.random.default_rng(0)
    names, cost, predicted = (
        [f"c{i}" for i in range(16)],
        np.arange(1.0, 17.0),
        rng.random((40, 16)),
    )
    rows = [
        {"candidate": name, "cost": c, "quality": 0.5, "se": 0.1}
        for name, c in zip(names, cost, strict=True)
    ]
    drawn = figures(
        document | {"candidates": rows},
        selection_table(predicted, cost, names),
        predicted,
        predicted,
    )
    text = "".join(ET.fromstring(drawn["predicted"]).itertext())
    assert (
        sum(name in text.split() for name in names) == 12
        and "c0" in text.split()
        and "c15" in text.split()
    )

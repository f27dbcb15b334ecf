"""Metrics that installed packages offer, and the example of them in docs/metrics.md."""

import re
import tomllib
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catimage.commands.score import score_rows
from catimage.errors import InputError
from catimage.metrics import get_metric, metric_class, names
from catimage.params import Params, parse_params

DOCS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
NUMBER = count()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a module with one metric, as pip does, under a name that no other test has."""

    def installed(code: str, name: str, attribute: str) -> None:
        module = f"own_metrics_{next(NUMBER)}"
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[catimage.metrics]\n{name} = {module}:{attribute}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    return installed


def example(language: str) -> str:
    section = DOCS[DOCS.index("## A metric of your own") :]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[0]


def test_the_example_of_the_documentation_is_a_metric(install, tmp_path: Path):
    ((name, value),) = tomllib.loads(example("toml"))["project"]["entry-points"][
        "catimage.metrics"
    ].items()
    code = example("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    install(code, name, value.split(":")[1])
    assert name in names()
    metric = get_metric(name)
    images = np.zeros((3, 8, 8, 3), np.uint8)
    images[0, ..., 0], images[1, ..., 2] = 255, 51
    assert metric.score(images, ["a", "b", "c"]) == pytest.approx([1, -0.2, 0])
    assert (metric.version, metric.higher_is_better, metric.needs_reference) == ("1", True, False)
    Image.fromarray(images[1]).save(tmp_path / "blue.png")
    (row,) = score_rows([tmp_path / "blue.png"], "blue", [name], Params())
    assert row["value"] == pytest.approx(-0.2)
    both = parse_params({"label": {"composites": {"it": {"terms": {name: {}}}}}}, "here")
    assert score_rows([tmp_path / "blue.png"], "blue", ["it"], both)[0]["value"] == pytest.approx(
        0.4
    )


def test_the_composite_of_the_documentation_is_one():
    import yaml

    params = parse_params(yaml.safe_load(example("yaml")), "docs")
    assert params.metric in params.label.metrics and params.metric in params.label.composites


PLAIN = """
from catimage.metrics import Metric
class Own(Metric):
    name = "own"
    range = (0, 1)
    def score(self, images, prompts):
        return [0.5] * len(images)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import no_such_module",
            (
                r"metric 'own' \(entry point own_metrics_\d+:Own\): cannot be loaded"
                r" \(ModuleNotFoundError: No module"
            ),
        ),
        ("", r"cannot be loaded \(AttributeError: module .* has no attribute 'Own'\)"),
        ("Own = 3", "is no subclass of catimage.metrics.Metric"),
        (
            "class Own:\n    name, range = 'own', (0, 1)",
            "is no subclass of catimage.metrics.Metric",
        ),
        (
            PLAIN.replace('"own"', '"other"'),
            "its class calls itself 'other'; give the entry point that name",
        ),
        (PLAIN.replace("    range = (0, 1)\n", ""), "its class declares no 'range'"),
        (PLAIN.replace('    name = "own"\n', ""), "its class declares no 'name'"),
        (
            PLAIN.replace("(0, 1)", "(1, 0)"),
            r"its range is \(1, 0\); give the lowest and the highest value",
        ),
        (PLAIN.replace("(0, 1)", "'all'"), "its range is 'all'"),
        (
            PLAIN.replace("def score", "def scores"),
            r"cannot be made \(TypeError: Can't instantiate abstract class Own",
        ),
        (
            PLAIN + "    def __init__(self, context):\n        raise OSError('no\\n weights.')\n",
            r"cannot be made \(OSError: no weights\)\.$",
        ),
    ],
)
def test_what_is_wrong_with_one_is_said_in_a_sentence(install, code: str, said: str):
    install(code, "own", "Own")
    with pytest.raises(InputError, match=said) as error:
        get_metric("own")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("metric 'own'")


def test_a_built_in_metric_is_not_replaced(install):
    install(PLAIN.replace('"own"', '"sharpness"'), "sharpness", "Own")
    assert metric_class("sharpness").__module__ == "catimage.metrics.sharpness"
    assert names().count("sharpness") == 1

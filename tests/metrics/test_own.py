"""Metrics of installed packages, and the example in docs/metrics.md."""

import re
import tomllib
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catimage.commands.score import score_rows
from catimage.errors import InputError
from catimage.metrics.registry import get_metric, metric_class, metric_names
from catimage.params import Params, parse_params

DOCS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
NUMBER = count()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a module with one metric as pip does, under a unique module name."""

    def install_module(code: str, name: str, attribute: str) -> None:
        module = f"own_metrics_{next(NUMBER)}"
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[catimage.metrics]\n{name} = {module}:{attribute}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    return install_module


def example(language: str) -> str:
    section = DOCS[DOCS.index("## Writing a metric") :]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[0]


def test_the_example_of_the_documentation_is_a_valid_metric(install, tmp_path: Path):
    ((name, value),) = tomllib.loads(example("toml"))["project"]["entry-points"][
        "catimage.metrics"
    ].items()
    code = example("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    install(code, name, value.split(":")[1])
    assert name in metric_names()
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


def test_the_composite_of_the_documentation_is_valid():
    import yaml

    params = parse_params(yaml.safe_load(example("yaml")), "docs")
    assert params.metric in params.label.metrics and params.metric in params.label.composites


PLAIN = """
from catimage.metrics.metric import Metric
class Own(Metric):
    name = "own"
    range = (0, 1)
    def score(self, images, prompts):
        return [0.5] * len(images)
"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import no_such_module",
            (
                r"metric 'own' \(entry point own_metrics_\d+:Own\): cannot be imported"
                r" \(ModuleNotFoundError: No module"
            ),
        ),
        ("", r"cannot be imported \(AttributeError: module .* has no attribute 'Own'\)"),
        ("Own = 3", "not a subclass of catimage.metrics.metric.Metric"),
        (
            "class Own:\n    name, range = 'own', (0, 1)",
            "not a subclass of catimage.metrics.metric.Metric",
        ),
        (
            PLAIN.replace('"own"', '"other"'),
            "the class has the name 'other'. Give the entry point the same name",
        ),
        (PLAIN.replace("    range = (0, 1)\n", ""), "the class has no attribute 'range'"),
        (PLAIN.replace('    name = "own"\n', ""), "the class has no attribute 'name'"),
        (
            PLAIN.replace("(0, 1)", "(1, 0)"),
            r"invalid range \(1, 0\)\. Set it to the lowest and the highest possible score",
        ),
        (PLAIN.replace("(0, 1)", "'all'"), "invalid range 'all'"),
        (
            PLAIN.replace("def score", "def scores"),
            r"its constructor failed \(TypeError: Can't instantiate abstract class Own",
        ),
        (
            PLAIN + "    def __init__(self, context):\n        raise OSError('no\\n weights.')\n",
            r"its constructor failed \(OSError: no weights\)\. Correct the class\.$",
        ),
    ],
)
def test_an_invalid_class_is_refused_in_one_sentence(install, code: str, message: str):
    install(code, "own", "Own")
    with pytest.raises(InputError, match=message) as error:
        get_metric("own")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("metric 'own'")


def test_a_package_cannot_replace_a_built_in_metric(install):
    install(PLAIN.replace('"own"', '"sharpness"'), "sharpness", "Own")
    assert metric_class("sharpness").__module__ == "catimage.metrics.sharpness"
    assert metric_names().count("sharpness") == 1

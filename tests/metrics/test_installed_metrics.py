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
MODULE_NUMBERS = count()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that installs a module with one metric, under a unique module name."""

    def install_module(code: str, name: str, attribute: str) -> None:
        module = f"custom_metrics_{next(MODULE_NUMBERS)}"
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
    """Return the first code block in a language after the heading "Writing a metric"."""
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
    params = parse_params({"label": {"composites": {"mean": {"terms": {name: {}}}}}}, "here")
    assert score_rows([tmp_path / "blue.png"], "blue", ["mean"], params)[0][
        "value"
    ] == pytest.approx(0.4)


def test_the_composite_of_the_documentation_is_valid():
    import yaml

    params = parse_params(yaml.safe_load(example("yaml")), "docs")
    assert params.metric in params.label.metrics and params.metric in params.label.composites


VALID_CODE = """
from catimage.metrics.metric import Metric
class Custom(Metric):
    name = "custom"
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
                r"metric 'custom' \(entry point custom_metrics_\d+:Custom\): cannot be imported"
                r" \(ModuleNotFoundError: No module"
            ),
        ),
        ("", r"cannot be imported \(AttributeError: module .* has no attribute 'Custom'\)"),
        ("Custom = 3", "not a subclass of catimage.metrics.metric.Metric"),
        (
            "class Custom:\n    name, range = 'custom', (0, 1)",
            "not a subclass of catimage.metrics.metric.Metric",
        ),
        (
            VALID_CODE.replace('"custom"', '"other"'),
            "the class has the name 'other'. Give the entry point the same name",
        ),
        (VALID_CODE.replace("    range = (0, 1)\n", ""), "the class has no attribute 'range'"),
        (VALID_CODE.replace('    name = "custom"\n', ""), "the class has no attribute 'name'"),
        (
            VALID_CODE.replace("(0, 1)", "(1, 0)"),
            r"invalid range \(1, 0\)\. Set it to the lowest and the highest possible score",
        ),
        (VALID_CODE.replace("(0, 1)", "'all'"), "invalid range 'all'"),
        (
            VALID_CODE.replace("def score", "def scores"),
            r"its constructor failed \(TypeError: Can't instantiate abstract class Custom",
        ),
        (
            VALID_CODE
            + "    def __init__(self, context):\n        raise OSError('no\\n weights.')\n",
            r"its constructor failed \(OSError: no weights\)\. Correct the class\.$",
        ),
    ],
)
def test_an_invalid_class_is_refused_with_a_message_of_one_line(install, code: str, message: str):
    install(code, "custom", "Custom")
    with pytest.raises(InputError, match=message) as error:
        get_metric("custom")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("metric 'custom'")


def test_a_package_cannot_replace_a_built_in_metric(install):
    install(VALID_CODE.replace('"custom"', '"sharpness"'), "sharpness", "Custom")
    assert metric_class("sharpness").__module__ == "catimage.metrics.sharpness"
    assert metric_names().count("sharpness") == 1

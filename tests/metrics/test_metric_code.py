"""The digest of a metric's code changes with its code and its libraries, and not otherwise."""

import sys

import pytest

from catimage.common.code import module_file
from catimage.metrics import metric_code as module
from catimage.metrics.l_snr import LSnr
from catimage.metrics.metric_code import metric_code
from catimage.metrics.sharpness import Sharpness

OWN = """
from catimage.metrics.metric import Metric
from own_metric.helper import FACTOR

class Own(Metric):
    name, range = "own", (0.0, 1.0)
    def score(self, images, prompts):
        return FACTOR * images.mean((1, 2, 3))
"""


@pytest.fixture
def clear():
    """Empty the cache of digests, as a new process would begin."""
    module._metric_code.cache_clear()
    yield module._metric_code.cache_clear
    module._metric_code.cache_clear()


def test_metrics_with_different_code_have_different_digests(clear):
    assert metric_code(Sharpness()) == metric_code(Sharpness()) != metric_code(LSnr())


def test_the_digest_includes_the_versions_of_the_libraries_that_a_metric_imports(
    clear, monkeypatch
):
    versions = {"torch": "2.9.0+cpu", "numpy": "2.0"}
    monkeypatch.setattr(module, "package_versions", lambda files: versions)
    before = metric_code(Sharpness())
    for changed, differs in (({"numpy": "2.1"}, False), ({"torch": "2.9.0+cu128"}, False)):
        monkeypatch.setattr(module, "package_versions", lambda files, new=changed: versions | new)
        clear()
        assert (metric_code(Sharpness()) != before) is differs
    monkeypatch.setattr(module, "package_versions", lambda files: versions | {"torch": "2.10.0"})
    clear()
    assert metric_code(Sharpness()) != before


@pytest.mark.parametrize("name", ["catimage.common.pixels", "catimage.metrics.scoring"])
@pytest.mark.parametrize("own_package", [True, False])
def test_the_digest_includes_the_code_that_decodes_images_and_combines_scores(
    clear, monkeypatch, name, own_package
):
    if not own_package:
        monkeypatch.setattr(Sharpness, "__module__", "tests.architectures")
    before = metric_code(Sharpness())
    digest, changed = module.code_digest, module_file(name)

    def changed_digest(files):
        return digest(files) + ("changed" if changed in files else "")

    monkeypatch.setattr(module, "code_digest", changed_digest)
    clear()
    assert metric_code(Sharpness()) != before


def test_the_digest_includes_the_code_of_another_package_without_its_comments(
    tmp_path, clear, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "own_metric"
    package.mkdir()
    (package / "__init__.py").write_text("")
    file = package / "metric.py"
    helper = package / "helper.py"
    helper.write_text("FACTOR = 0.5\n")
    file.write_text(OWN)
    from own_metric.metric import Own

    before = metric_code(Own())
    helper.write_text("# a comment\nFACTOR = 0.5\n")
    clear()
    assert metric_code(Own()) == before
    helper.write_text("FACTOR = 0.25\n")
    clear()
    assert metric_code(Own()) != before
    for name in [name for name in sys.modules if name.startswith("own_metric")]:
        del sys.modules[name]

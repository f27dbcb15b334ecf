"""The public API of the package: names, lazy imports, and the example in the README."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import catimage

README = Path(__file__).parents[1] / "README.md"


def test_every_public_name_can_be_imported() -> None:
    assert {"Router", "load_pool", "Dataset", "evaluate"} <= set(catimage.__all__)
    assert all(getattr(catimage, name).__name__ == name for name in catimage.__all__)
    assert set(catimage.__all__) <= set(dir(catimage))


def test_an_unknown_name_raises_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'catimage' has no attribute 'Ruoter'"):
        catimage.Ruoter  # noqa: B018


def test_importing_the_package_does_not_import_large_libraries() -> None:
    code = (
        "import sys, catimage; print(*{'numpy', 'torch', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_the_example_of_the_readme_runs(
    monkeypatch: pytest.MonkeyPatch, calibrated_folder: Path
) -> None:
    (example,) = re.findall(r"```python\n(>>> .*?)```", README.read_text(), re.S)
    monkeypatch.chdir(calibrated_folder)
    test = doctest.DocTestParser().get_doctest(example, {}, "README.md", str(README), 0)
    result = doctest.DocTestRunner().run(test)
    assert result.failed == 0 and result.attempted >= 6

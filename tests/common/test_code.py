"""Tests of import closures, digests of code, and versions of packages."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import catimage
from catimage.common.code import (
    NOT_INSTALLED,
    code_digest,
    import_closure,
    installed_version,
    module_file,
    module_name,
    package_versions,
    source_facts,
)

PACKAGE = Path(catimage.__file__).parent
SOURCE = '''"""The module."""
import json  # a comment


class Box:
    """A box."""

    size = 3
    """The size."""

    def area(self, scale=1.0):
        """Return the area."""
        return self.size * scale
'''


def write_package(folder: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a package ``boxes`` and make it importable."""
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "boxes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()


def names(paths: tuple[Path, ...]) -> list[str]:
    """Return the names of the modules in files."""
    return [module_name(path) for path in paths]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a comment", ""),
        ('"""The module."""\n', "# no docstring\n"),
        ('    """A box."""\n', '    """Another\n\n    docstring."""\n'),
        ('    """The size."""\n', ""),
        ("area(self, scale=1.0)", "area(\n        self,\n        scale=1.00,\n    )"),
        ("return self.size * scale", "return (self.size * scale)"),
    ],
)
def test_comments_docstrings_and_formatting_do_not_change_the_digest(
    tmp_path: Path, old: str, new: str
) -> None:
    path = tmp_path / "box.py"
    path.write_text(SOURCE)
    before = code_digest([path])
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE
    path.write_text(changed)
    assert code_digest([path]) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 3", "size = 4"),
        ("scale=1.0", "scale=2.0"),
        ("self.size * scale", "scale * self.size"),
        ("import json", "import csv"),
        ("size = 3", 'size = "3"'),
        ("size = 3", "size = None"),
    ],
)
def test_a_change_of_the_code_changes_the_digest(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "box.py"
    path.write_text(SOURCE)
    before = code_digest([path])
    path.write_text(SOURCE.replace(old, new))
    assert code_digest([path]) != before


def test_the_digest_does_not_depend_on_the_folder_or_the_order(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        package = tmp_path / folder / "boxes"
        package.mkdir(parents=True)
        for name, text in (("__init__", ""), ("a", "x = 1"), ("b", "x = 2")):
            (package / f"{name}.py").write_text(text)
    first, second = (sorted((tmp_path / f).rglob("*.py")) for f in ("first", "second"))
    assert code_digest(first) == code_digest(reversed(second))
    (tmp_path / "second/boxes/a.py").rename(tmp_path / "second/boxes/c.py")
    assert code_digest(first) != code_digest((tmp_path / "second").rglob("*.py"))


def test_the_closure_has_imports_in_functions_relative_imports_and_registry_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(
        tmp_path,
        {
            "start.py": "def f():\n    from boxes.inner import used\n",
            "inner/__init__.py": "",
            "inner/used.py": "from . import sibling\nfrom ..registry import KINDS\n",
            "inner/sibling.py": "",
            "registry.py": 'KINDS = {"x": "boxes.kind:Kind", "y": "http://host:80"}\n',
            "kind.py": 'from importlib import import_module\nm = import_module("boxes.dynamic")\n',
            "dynamic.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    import boxes.typed\nelse:\n    import boxes.untyped\n",
            "typed.py": "",
            "untyped.py": "",
            "other.py": "",
        },
        monkeypatch,
    )
    closure = import_closure("boxes.start", within=["boxes"])
    assert names(closure) == [
        "boxes.__init__",
        "boxes.dynamic",
        "boxes.inner.__init__",
        "boxes.inner.sibling",
        "boxes.inner.used",
        "boxes.kind",
        "boxes.registry",
        "boxes.start",
        "boxes.untyped",
    ]
    assert names(import_closure("boxes.start", within=["boxes.start", "boxes.inner"])) == [
        "boxes.inner.__init__",
        "boxes.inner.sibling",
        "boxes.inner.used",
        "boxes.start",
    ]
    assert "boxes" not in sys.modules


def test_the_closure_of_a_stage_has_the_layers_below_it() -> None:
    closure = names(import_closure("catimage.stages.sample"))
    assert {
        "catimage.stages.sample",
        "catimage.data.prompts.sources",
        "catimage.data.schema",
        "catimage.encoders.open_clip",
        "catimage.encoders.sentence_transformers",
        "catimage.params.data",
        "catimage.workspace",
        "catimage.errors",
    } <= set(closure)
    assert "catimage.__init__" not in closure
    assert not {n for n in closure if n.startswith(("catimage.cli", "catimage.metrics"))}


def test_the_closure_has_every_module_that_importing_the_stage_loads() -> None:
    import_stage = importlib.import_module("catimage.stages.generate")
    assert import_stage
    closure = set(import_closure("catimage.stages.generate"))
    for path in closure:
        if path.is_relative_to(PACKAGE):
            for name in source_facts(path).imports:
                file = module_file(name) if name.startswith("catimage.") else None
                assert file is None or file in closure


def test_an_unknown_module_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"catimage\.stages\.missing"):
        import_closure("catimage.stages.missing")


def test_versions_are_those_of_the_installed_distributions(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import json\nimport numpy as np\nfrom PIL import Image\n"
        "def f():\n    import no_such_package\n"
    )
    assert package_versions([path]) == {
        "PIL": version("pillow"),
        "no_such_package": NOT_INSTALLED,
        "numpy": version("numpy"),
    }


def test_a_package_whose_distribution_has_another_name_is_found() -> None:
    assert installed_version("dateutil") == f"python-dateutil {version('python-dateutil')}"


def test_the_packages_of_the_project_are_not_among_the_versions() -> None:
    versions = package_versions(import_closure("catimage.stages.sample"))
    assert {"numpy", "pandas", "pyarrow", "torch", "open_clip"} <= set(versions)
    assert "catimage" not in versions
    assert "json" not in versions

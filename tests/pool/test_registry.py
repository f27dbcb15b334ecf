"""Kinds of generators: built-in kinds, kinds of installed packages, and the example in the docs."""

import re
import tomllib
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import yaml

from catimage.commands.pool_check import check_rows, verification_lines
from catimage.errors import InputError
from catimage.pool.costs import candidate_costs, candidates_without_cost
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.kind import GeneratorKind
from catimage.pool.loading import load_pool
from catimage.pool.registry import (
    BUILT_IN_KINDS,
    candidate_definitions,
    generator_kinds,
    kind_class,
    kind_names,
)
from catimage.pool.spec import GeneratorSpec
from tests.miniature import pool_tree

DOCS = (Path(__file__).parents[2] / "docs" / "pools.md").read_text()
MODULE_NUMBERS = count()
Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """A function that installs a module with an entry point, under a new name in each call."""

    def install_module(code: str, name: str, attribute: str) -> None:
        module = f"own_kinds_{next(MODULE_NUMBERS)}"
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[catimage.generators]\n{name} = {module}:{attribute}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    return install_module


def example(language: str) -> str:
    """Return the first code block in a language in the section on kinds in docs/pools.md."""
    section = DOCS[DOCS.index("## A kind of your own") :]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[0]


def test_built_in_kinds_declare_their_schema():
    for name in BUILT_IN_KINDS:
        kind = kind_class(name)
        assert issubclass(kind, GeneratorKind) and issubclass(kind.schema, GeneratorSpec)
        assert kind.schema.model_fields["kind"].annotation.__args__ == (name,)


def test_kinds_with_parts_that_have_not_been_run_report_these_parts():
    unverified = {name for name in BUILT_IN_KINDS if kind_class(name).verification}
    assert unverified == {"distrifusion", "infinity"}
    lines = verification_lines([{"kind": name} for name in BUILT_IN_KINDS])
    assert [line.split(":")[0] for line in lines] == ["distrifusion", "infinity"]
    assert all("have been run" in line and "not" in line for line in lines)


def test_definitions_of_all_candidates(miniature_pool: Path):
    pool = load_pool(str(miniature_pool))
    definitions = candidate_definitions(pool)
    assert list(definitions) == [c.candidate for c in pool.candidates]
    assert definitions["mini-1"]["kind"] == "diffusers"
    assert definitions["mini-1"]["weights"] == generator_kinds(pool)["mini"].identity()["weights"]


def test_the_example_in_the_documentation_generates_images(install: Install, tmp_path: Path):
    entry_points = tomllib.loads(example("toml"))["project"]["entry-points"]
    ((name, value),) = entry_points["catimage.generators"].items()
    install(example("python"), name, value.split(":")[1])
    assert name in kind_names()
    (tmp_path / "mine.yaml").write_text(example("yaml"))
    pool = load_pool(str(tmp_path / "mine.yaml"))
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    (generator,) = pool.generators
    first, second = pool.candidates
    images = cache.get(generator).generate(["a", "b"], first, [0, 1])
    assert images.shape == (2, 64, 64, 3) and images.dtype == np.uint8
    assert (images == cache.get(generator).generate(["a", "b"], first, [0, 1])).all()
    assert (images != cache.get(generator).generate(["a", "b"], second, [0, 1])).any()
    definitions = candidate_definitions(pool)
    assert definitions[first.candidate]["kind"] == name
    assert definitions[first.candidate] != definitions[second.candidate]
    assert candidates_without_cost(pool, "usd") == []
    assert candidate_costs(pool)["unit"].tolist() == ["usd", "usd"]
    rows = check_rows(str(pool.file), None)
    assert [(row["kind"], row["problem"]) for row in rows] == [(name, "")] * 2
    cache.release(generator)


KIND_CODE = """
from catimage.pool.kind import GeneratorKind
from catimage.pool.spec import GeneratorSpec
class Own(GeneratorKind):
    schema = GeneratorSpec
    def identity(self):
        return {}
    def load(self, memory):
        raise NotImplementedError
"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import no_such_module",
            r"kind 'own' \(entry point own_kinds_\d+:Own\): cannot be imported"
            r" \(ModuleNotFoundError: No module",
        ),
        ("", r"cannot be imported \(AttributeError: module .* has no attribute 'Own'"),
        ("Own = 3", "is not a subclass of catimage.pool.kind.GeneratorKind"),
        (KIND_CODE.replace("def load", "def loads"), "does not implement 'load'"),
        (
            KIND_CODE.replace("    schema = GeneratorSpec\n", ""),
            "its 'schema' is not a subclass of",
        ),
        (
            KIND_CODE.replace("schema = GeneratorSpec", "schema = dict"),
            "its 'schema' is not a subclass",
        ),
    ],
)
def test_an_invalid_kind_gives_a_one_line_message(
    install: Install, tmp_path: Path, code: str, message: str
):
    install(code, "own", "Own")
    tree = pool_tree("sd")
    tree["generators"] = {"mini": {"kind": "own", "size": 64}}
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=message) as error:
        load_pool(str(tmp_path / "pool.yaml"))
    assert "\n" not in str(error.value)


def test_settings_of_an_installed_kind_are_validated(install: Install, tmp_path: Path):
    install(KIND_CODE, "own", "Own")
    tree = pool_tree("sd")
    tree["generators"] = {"mini": {"kind": "own", "size": 64, "colour": "red"}}
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=r"unknown key 'generators\.mini\.colour'"):
        load_pool(str(tmp_path / "pool.yaml"))


def test_costs_of_a_kind_without_a_counter(install: Install, tmp_path: Path):
    install(KIND_CODE, "own", "Own")
    tree = pool_tree("sd")
    tree["generators"] = {"mini": {"kind": "own", "size": 64}}
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(
        InputError, match=r"mini\.kind: the TFLOPs of a 'own' generator cannot be computed\. Give"
    ):
        candidate_costs(load_pool(str(tmp_path / "pool.yaml")))


def test_an_installed_kind_with_the_name_of_a_built_in_kind_is_ignored(install: Install):
    install(KIND_CODE, "hosted", "Own")
    assert kind_class("hosted").__module__ == "catimage.pool.generators.hosted.kind"
    assert kind_names().count("hosted") == 1

"""Plans depend on the code of a kind and on its libraries, and not on other code."""

import json
from pathlib import Path

import pytest

from catimage.common import code
from catimage.data.shards.blocks import plan_blocks
from catimage.pool import image_code as module
from catimage.pool.generation import planned_candidates
from catimage.pool.image_code import code_changes, image_code, image_files, resolve
from catimage.pool.loading import load_pool
from catimage.pool.registry import BUILT_IN_KINDS


@pytest.fixture
def clear():
    """Empty the cache, as a new process would begin; return a function that empties it again."""
    module._image_code.cache_clear()
    yield module._image_code.cache_clear
    module._image_code.cache_clear()


def plan_names() -> dict[str, str]:
    """Return the name of the plan of each candidate of the pool ``tiny-full``."""
    blocks = plan_blocks(planned_candidates(load_pool("tiny-full")), [("p", "a")], [0], 1, 1)
    return {plan.candidate: plan.name for block in blocks for plan in block.plans}


def built_in_files(kind: str) -> tuple[Path, ...]:
    return image_files(kind, BUILT_IN_KINDS[kind].partition(":")[0])


def test_a_kind_depends_on_its_package_but_not_on_code_that_computes_costs():
    names = {f"{path.parent.name}/{path.stem}" for path in built_in_files("diffusers")}
    assert {"diffusion/generator", "diffusion/sampling", "diffusion/lora"} <= names
    assert not {"diffusion/counting", "diffusion/tokenizer", "hosted/generator"} & names
    assert "diffusion/sampling" in {
        f"{path.parent.name}/{path.stem}" for path in built_in_files("distrifusion")
    }


def test_versions_are_those_of_the_libraries_that_a_kind_imports(clear, monkeypatch):
    versions = {"torch": "2.9.0+cpu", "diffusers": "0.38.0", "numpy": "2.0"}
    monkeypatch.setattr(module, "package_versions", lambda *_: versions)
    found = image_code("diffusers")
    assert found == {"code": found["code"], "torch": "2.9.0", "diffusers": "0.38.0"}
    assert image_code("hosted") == {}


def test_a_change_of_a_kinds_code_changes_the_plans_of_its_candidates_only(clear, monkeypatch):
    before = plan_names()
    clear()
    digest = module.code_digest
    monkeypatch.setattr(
        module,
        "code_digest",
        lambda files, facts: ("0" * 32) if "next_scale" in str(files) else digest(files, facts),
    )
    after = plan_names()
    assert {name for name in before if before[name] != after[name]} == {"tiny-infinity"}


def test_a_new_version_of_torch_changes_all_plans_unless_it_is_declared_equivalent(
    clear, monkeypatch, tmp_path
):
    before, current = plan_names(), code.installed_version("torch").partition("+")[0]
    versions = module.package_versions
    monkeypatch.setattr(
        module,
        "package_versions",
        lambda files, facts: versions(files, facts) | {"torch": "99.0+cpu"},
    )
    clear()
    after = plan_names()
    assert all(before[name] != after[name] for name in before)
    declared = tmp_path / "equivalent_code.json"
    document = json.loads(module.EQUIVALENT_CODE.read_text())
    document["versions"]["torch"] = {"99.0": current}
    declared.write_text(json.dumps(document))
    monkeypatch.setattr(module, "EQUIVALENT_CODE", declared)
    clear()
    assert plan_names() == before


def test_a_declared_digest_keeps_the_plans(clear, monkeypatch, tmp_path):
    before, old = plan_names(), image_code("diffusers")["code"]
    digest = module.code_digest
    monkeypatch.setattr(
        module,
        "code_digest",
        lambda files, facts: ("f" * 32) if "sampling" in str(files) else digest(files, facts),
    )
    declared = tmp_path / "equivalent_code.json"
    document = json.loads(module.EQUIVALENT_CODE.read_text())
    document["code"]["diffusers"] = {"f" * 32: old}
    declared.write_text(json.dumps(document))
    monkeypatch.setattr(module, "EQUIVALENT_CODE", declared)
    clear()
    assert plan_names() == before


def test_replacements_are_followed_to_the_end_and_a_cycle_is_an_error():
    assert resolve("a", {}) == "a"
    assert resolve("a", {"a": "b", "b": "c"}) == "c"
    with pytest.raises(
        ValueError, match=r"equivalent_code\.json: the replacements of a form a cycle\. Remove"
    ):
        resolve("a", {"a": "b", "b": "a"})


def test_differences_are_described():
    old = {"code": "1", "torch": "2.9.0", "diffusers": "0.38.0"}
    assert code_changes(old, old) == ""
    assert code_changes(old, old | {"diffusers": "0.39.0"}) == "diffusers 0.38.0 -> 0.39.0"
    assert code_changes(old, {"code": "2", "torch": "2.9.0", "diffusers": "0.38.0"}) == (
        "the code of the generator has changed"
    )


def test_the_packaged_declarations_are_well_formed():
    declared = json.loads(module.EQUIVALENT_CODE.read_text())
    assert set(declared) == {"code", "versions"}
    assert set(declared["code"]) <= set(BUILT_IN_KINDS)
    assert set(declared["versions"]) <= set(module.LIBRARIES)
    for replaced in (*declared["code"].values(), *declared["versions"].values()):
        assert all(resolve(value, replaced) != value for value in replaced)

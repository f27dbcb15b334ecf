"""Reading pool files: the search for a file, and messages for invalid files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.errors import InputError
from catimage.pool.loading import load_pool
from tests.miniature import pool_tree


def test_a_pool_of_the_workspace_takes_precedence(tmp_path: Path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(pool_tree("sd")))
    assert load_pool("tiny", tmp_path).name == "miniature"
    assert load_pool("tiny", tmp_path / "absent").name == "tiny"


def test_the_message_for_an_unknown_name_lists_the_pools(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(
        InputError, match=r"pool: 'tinny' is not found in .*did you mean 'tiny'.*mine, .*tiny"
    ):
        load_pool("tinny", tmp_path)
    with pytest.raises(InputError, match="the pool file is not found"):
        load_pool(str(tmp_path / "absent.yaml"))


def _set(*path: Any) -> Callable[[Any], None]:
    """Return a function that sets one value of a nested mapping.

    The arguments are the keys of the value, from the outermost to the innermost, and the value.
    """
    *keys, last, value = path

    def set_value(tree: Any) -> None:
        for key in keys:
            tree = tree[key]
        tree[last] = value

    return set_value


INVALID_POOLS = {
    "two candidates with one name": (
        _set("candidates", 2, "candidate", "mini-1"),
        r"candidates, row 3: the candidate 'mini-1' is already in row 1\. Rename or remove one",
    ),
    "the name of a candidate is a path": (
        _set("candidates", 2, "candidate", "../mini"),
        r"candidates, row 3: the candidate '\.\./mini' is a path\. Rename it",
    ),
    "negative cost": (
        _set("candidates", 1, "cost", -1),
        r"'candidates, row 2\.cost'.*at least 0, not -1\. Correct the value\.",
    ),
    "infinite cost": (
        _set("candidates", 1, "cost", float("inf")),
        r"'candidates, row 2\.cost'.*finite",
    ),
    "zero steps": (_set("candidates", 0, "steps", 0), r"'candidates, row 1\.steps'"),
    "unknown generator": (
        _set("candidates", 0, "generator", "minni"),
        r"row 1: no generator is called 'minni' \(did you mean 'mini'",
    ),
    "unknown key": (
        _set("candidats", 1),
        r"unknown key 'candidats' \(did you mean 'candidates'\?\)\. The keys are name",
    ),
    "unknown generator key": (
        _set("generators", "mini", "guidence", 1),
        r"unknown key 'generators\.mini\.guidence' \(did you mean 'guidance'",
    ),
    "unknown candidate key": (
        _set("candidates", 0, "step", 1),
        r"row 1: unknown key 'step' \(did you mean 'steps'",
    ),
    "a setting that candidates may not override": (
        _set("candidates", 0, "size", 64),
        r"row 1: unknown key 'size'.*The keys are .*steps, cost, unit, scheduler",
    ),
    "invalid setting": (
        _set("candidates", 0, "guidance", -1),
        r"row 1: key 'guidance': .*at least 0, not -1",
    ),
    "two equal candidates": (
        _set("candidates", 2, "steps", 1),
        r"row 3: the candidate 'mini-4' is the same as 'mini-1'\. Remove one",
    ),
    "two equal candidates, one of which sets a default explicitly": (
        lambda tree: tree["candidates"][2].update(steps=1, guidance=3.0),
        r"row 3: the candidate 'mini-4' is the same as 'mini-1'",
    ),
    "no size": (
        lambda tree: tree["generators"]["mini"].pop("size"),
        r"the key 'generators\.mini\.size' is missing",
    ),
    "a size that is not a multiple of 8": (
        _set("generators", "mini", "size", 63),
        r"'generators\.mini\.size': .*multiple of 8, not 63",
    ),
    "unknown kind": (
        _set("generators", "mini", "kind", "magic"),
        r"mini\.kind': no kind is called 'magic'\. The kinds are diffusers",
    ),
    "a candidate without an explicit cost": (
        _set("costs", "explicit"),
        r"row 1: the candidate 'mini-1' has no cost\. Add one, or write 'costs: counted'",
    ),
    "unknown reference": (
        _set("reference_condition", "mini-3"),
        r"reference_condition: no candidate is called 'mini-3'",
    ),
    "unknown metric reference": (
        _set("metric_reference", {"mini": "x"}),
        r"metric_reference\.mini: no candidate is called 'x'",
    ),
    "reference of an unknown generator": (
        _set("metric_reference", {"maxi": "mini-1"}),
        r"metric_reference: no generator is called 'maxi'",
    ),
    "generators is a list": (
        _set("generators", ["mini"]),
        r"key 'generators': .*must be a mapping",
    ),
    "a generator is a string": (
        _set("generators", "mini", "sd"),
        r"key 'generators\.mini': is not a mapping",
    ),
    "no candidates": (_set("candidates", []), r"'candidates': .*at least 1 entry"),
}


@pytest.mark.parametrize(("change", "message"), INVALID_POOLS.values(), ids=INVALID_POOLS)
def test_an_invalid_pool_gives_a_one_line_message(
    tmp_path: Path, change: Callable[[Any], None], message: str
):
    tree = pool_tree("sd")
    change(tree)
    path = tmp_path / "invalid.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=message) as caught:
        load_pool(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- a list", "just text", ""])
def test_a_file_without_a_pool_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "invalid.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)):
        load_pool(str(path))

"""Locked requirements."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

import pytest
from packaging.requirements import Requirement

from catimage.common import lock
from catimage.common.lock import extras_of, locked_requirements
from catimage.errors import InputError


def names(*extras: str) -> set[str]:
    return {line.partition("==")[0] for line in locked_requirements(*extras)}


def test_a_lock_has_the_installed_version_of_every_required_package() -> None:
    lines = locked_requirements("serve")
    found = dict(line.split("==") for line in lines)
    assert lines == sorted(lines) and "catimage" not in found
    assert {"torch", "bentoml", "scikit-learn", "uvicorn", "markupsafe"} <= found.keys()
    for name, number in found.items():
        assert number == version(name).partition("+")[0]
        for required in map(Requirement, requires(name) or []):  # the closure is complete
            if required.marker is None:
                assert required.name.lower().replace("_", "-").replace(".", "-") in found


def test_extras_add_packages() -> None:
    assert "openai" not in names("serve")
    assert "openai" in names("serve", "hosted")
    assert "sentence-transformers" in names("serve", "text")
    assert extras_of(["diffusers"], False) == ("serve",)
    assert extras_of(["diffusers", "hosted"], True) == ("serve", "hosted", "text")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(lock, "distribution", missing)
    with pytest.raises(InputError, match="catimage: not installed, but required"):
        locked_requirements()

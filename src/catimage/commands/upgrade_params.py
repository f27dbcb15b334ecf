"""Migration of ``params.yaml`` from an older version: keys that have been renamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from catimage.estimators.build import RENAMED_SETTINGS
from catimage.params.loading import RENAMED_KEYS

_CHANGED_VALUES = {"exact"}
"""Settings whose values have changed too, so that a person has to decide."""
_LAST_NAME = {"lstm"}
"""Kinds of estimators for which the last of several new names of a setting is valid."""


def rename_keys(tree: dict[str, Any]) -> list[str]:
    """Rename the keys that have a new name; comments are kept.

    Args:
        tree: the output of :func:`~catimage.params.editing.read_tree`, which is changed in place.

    Returns:
        A text for each change.
    """
    steps = []
    for old, new in RENAMED_KEYS.items():
        section, _, key = old.rpartition(".")
        mapping = tree.get(section)
        if isinstance(mapping, dict) and key in mapping:
            _rename(mapping, key, new.rpartition(".")[2])
            steps.append(f"params.yaml: {old} to {new}")
    for estimator in _estimators(tree):
        settings, kind = estimator["settings"], estimator.get("kind") or estimator.get("name")
        for key in [key for key in settings if key in RENAMED_SETTINGS.keys() - _CHANGED_VALUES]:
            name = RENAMED_SETTINGS[key][-1 if kind in _LAST_NAME else 0]
            _rename(settings, key, name)
            steps.append(f"params.yaml: setting {key} of {estimator.get('name')} to {name}")
    return steps


def _estimators(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the entries of ``train.estimators`` that have settings."""
    section = tree.get("train")
    entries = section.get("estimators") if isinstance(section, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("settings"), dict):
            yield entry


def _rename(mapping: dict[str, Any], old: str, new: str) -> None:
    """Rename a key of a mapping with comments, at its position."""
    position, comments = list(mapping).index(old), getattr(mapping, "ca", None)
    value = mapping.pop(old)
    if comments is None:
        mapping[new] = value
        return
    mapping.insert(position, new, value)  # type: ignore[attr-defined]  # of ruamel.yaml
    if old in comments.items:
        comments.items[new] = comments.items.pop(old)

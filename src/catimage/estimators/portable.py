"""Text encoders of the stored estimators of a router: copies of them, and the packages they need.

An estimator refers to its text encoder by name. The name of an encoder in a local folder is valid
on one machine only, so a Bento contains a copy of the folder, and estimators that use the copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from catimage.common.wheel import READERS
from catimage.encoders.loading import SENTENCE_TRANSFORMERS_PREFIX
from catimage.encoders.open_clip import LOCAL_PREFIX
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.steps import rename_encoder, text_encoders


def encoder_models(router: Path) -> list[str]:
    """Return the ``encoder.model`` of each text encoder of the estimators in a router's folder."""
    estimators = [store.load(folder)[0] for folder in _estimators(router)]
    return list(
        dict.fromkeys(e.model for estimator in estimators for e in text_encoders(estimator))
    )


def reader_packages(models: Sequence[str]) -> tuple[str, ...]:
    """Return the packages that load the estimators and the text encoders ``models``."""
    uses_sentences = any(model.startswith(SENTENCE_TRANSFORMERS_PREFIX) for model in models)
    return (*READERS, "sentence-transformers") if uses_sentences else READERS


def copy_local_encoders(models: Sequence[str], folder: Path) -> dict[str, str]:
    """Copy the text encoders in local folders to subfolders of ``folder``.

    Args:
        models: the output of :func:`encoder_models`.
        folder: an existing folder.

    Returns:
        The ``encoder.model`` of each copy, relative to ``folder``, by that of the original.

    Raises:
        InputError: the folder of an encoder does not exist.
    """
    copies: dict[str, str] = {}
    for model in models:
        prefix, _, source = model.partition(":")
        from_hub = f"{prefix}:" == SENTENCE_TRANSFORMERS_PREFIX and not Path(source).is_dir()
        if f"{prefix}:" not in (LOCAL_PREFIX, SENTENCE_TRANSFORMERS_PREFIX) or from_hub:
            continue
        if not Path(source).is_dir():
            raise InputError(f"encoder.model: folder {source!r} not found. Correct the path.")
        name = f"encoder-{len(copies) + 1}" if copies else "encoder"
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        copies[model] = f"{prefix}:{name}"
    return copies


def use_copies(router: Path, copies: Mapping[str, str]) -> None:
    """Change and save the estimators in a router's folder, so that they use copied text encoders.

    Args:
        router: the folder of the router.
        copies: the output of :func:`copy_local_encoders`.
    """
    for folder in _estimators(router) if copies else ():
        estimator, meta = store.load(folder)
        for old, new in copies.items():
            rename_encoder(estimator, old, new)
        store.save(estimator, folder, meta)


def _estimators(router: Path) -> list[Path]:
    """Return the folders of the estimators in a router's folder, sorted."""
    return [path.parent for path in sorted(router.rglob("estimator.skops"))]

"""Stage package: build and export a Bento of the router and its generators."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import reduce
from importlib.metadata import requires
from operator import getitem
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

import catimage
from catimage.common.hashing import folder_digest
from catimage.encoders.loading import SENTENCE_TRANSFORMERS_PREFIX
from catimage.encoders.open_clip import LOCAL_PREFIX
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.steps import rename_encoder, text_encoders
from catimage.params import Params
from catimage.pool.loading import PACKAGED, load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool
from catimage.router import Router
from catimage.workspace import Workspace, replacing

if TYPE_CHECKING:
    from bentoml import Bento

SERVICE = "bentos.service:RouterService"
PACKAGE = Path(catimage.__file__).parent
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "_bentos")
DESCRIPTION = "CATImage: routes each prompt to a candidate. Serve it with `bentoml serve`.\n"


def run(workspace: Workspace, params: Params) -> None:
    """Write ``dist/bento/`` and ``dist/bento.json``, and add the Bento to BentoML's store.

    The Bento contains the services, the package, the router, and the model weights that are in
    local folders. Its tag is a hash of its content, so that equal content is built once.

    Raises:
        InputError: BentoML, the router, a candidate of the router or the folder of a text encoder
            is missing, or ``package.name`` is invalid.
    """
    router, pool = Router.load(workspace.router), load_pool(params.pool, workspace.pools)
    if missing := sorted(set(router.candidates) - {c.candidate for c in pool.candidates}):
        raise InputError(
            f"{workspace.router}: the pool {pool.name!r} lacks {', '.join(missing)}. Set 'pool' to"
            " a pool with these candidates."
        )
    with TemporaryDirectory() as name:
        _write_content(Path(name), workspace, params, pool)
        bento = _build(Path(name), _add_encoders(Path(name)), params.package.name)
    document = {"tag": str(bento.tag), "router": folder_digest(workspace.router), "pool": pool.name}
    with replacing(workspace.dist / "bento") as new:
        shutil.copytree(bento.path, new)
    with replacing(workspace.dist / "bento.json") as new:
        new.write_text(json.dumps(document, indent=2) + "\n")
    print(f"package: {bento.tag}, exported to {workspace.dist / 'bento'}", flush=True)


def _write_content(folder: Path, workspace: Workspace, params: Params, pool: Pool) -> None:
    """Write the content of the Bento, without the text encoders, to ``folder``."""
    shutil.copytree(PACKAGE, folder / "catimage", ignore=IGNORED)
    services = PACKAGE / "_bentos"
    if not services.is_dir():  # an editable installation
        services = PACKAGE.parents[1] / "bentos"
    shutil.copytree(services, folder / "bentos", ignore=IGNORED)
    shutil.copytree(workspace.router, folder / "models" / "router")
    if pool.folder != PACKAGED:
        _copy_pool(folder / "pools", pool)
    settings = params.model_dump(mode="json", include={"metric", "cost_unit", "budget", "encoder"})
    settings |= {"pool": pool.file.stem, "generate": {"device": params.generate.device}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    required = [r.replace('"', "'") for r in requires("catimage") or []]
    lines = [r.split("; extra")[0] for r in required if "extra" not in r or "'serve'" in r]
    (folder / "requirements.txt").write_text("\n".join(sorted(lines)) + "\n")


def _copy_pool(folder: Path, pool: Pool) -> None:
    """Copy the YAML file of a pool and its local weights, whose paths are changed in the copy."""
    tree: dict[str, Any] = yaml.safe_load(pool.file.read_text(encoding="utf-8"))
    for name, spec in pool.generators.items():
        for key, source in kind_of(spec, pool.folder).local_folders().items():
            copy = f"{pool.file.stem}/{name}/{key}"
            shutil.copytree(source, folder / copy)
            *sections, last = key.split(".")
            reduce(getitem, sections, tree["generators"][name])[last] = copy
    folder.mkdir(exist_ok=True)
    (folder / f"{pool.file.stem}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def _add_encoders(folder: Path) -> str:
    """Copy the text encoders in local folders, and make the estimators use the copies.

    Return the digest of the content before the estimators are saved: saving changes their bytes.
    """
    paths = sorted((folder / "models" / "router").rglob("estimator.skops"))
    loaded = {path.parent: store.load(path.parent) for path in paths}
    models = [e.model for estimator, _ in loaded.values() for e in text_encoders(estimator)]
    copies = _copy_encoders(folder, list(dict.fromkeys(models)))
    digest = folder_digest(folder)
    for path, (estimator, meta) in loaded.items() if copies else ():
        for old, new in copies.items():
            rename_encoder(estimator, old, new)
        store.save(estimator, path, meta)
    return digest


def _copy_encoders(folder: Path, models: list[str]) -> dict[str, str]:
    """Copy the text encoders in local folders; return the new ``encoder.model`` by old one."""
    copies: dict[str, str] = {}
    for model in models:
        prefix, _, source = model.partition(":")
        from_hub = f"{prefix}:" == SENTENCE_TRANSFORMERS_PREFIX and not Path(source).is_dir()
        if f"{prefix}:" not in (LOCAL_PREFIX, SENTENCE_TRANSFORMERS_PREFIX) or from_hub:
            continue
        if not Path(source).is_dir():
            raise InputError(f"encoder.model: folder {source!r} not found. Correct the path.")
        name = f"encoder-{len(copies) + 1}" if copies else "encoder"
        shutil.copytree(source, folder / name, ignore=IGNORED)
        copies[model] = f"{prefix}:{name}"
    return copies


def _build(folder: Path, digest: str, name: str) -> Bento:
    """Return the Bento of a folder; build it unless it is in the store of BentoML."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    try:
        import bentoml
    except ModuleNotFoundError as error:
        raise InputError("BentoML: not installed. Run pip install 'catimage[serve]'.") from error
    content = f"{digest} {bentoml.__version__}".encode()
    try:
        tag = bentoml.Tag(name, hashlib.sha256(content).hexdigest()[:16])
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise InputError(f"package.name: invalid name {name!r} ({reason}). Change it.") from error
    try:
        return bentoml.get(tag)
    except bentoml.exceptions.NotFound:
        python = {"requirements_txt": "requirements.txt", "lock_packages": False}
        labels: dict[str, Any] = {"name": name, "version": tag.version, "description": DESCRIPTION}
        return bentoml.build(SERVICE, build_ctx=str(folder), python=python, **labels)

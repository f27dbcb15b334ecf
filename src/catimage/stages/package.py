"""Stage package: a Bento of the router and its generators, with all that it needs, and exported so
that ``bentoml serve`` runs it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.metadata import requires
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

import catimage
from catimage.common.hashing import folder_digest
from catimage.encoders.loading import SENTENCE_TRANSFORMERS_PREFIX
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.steps import encoders_of, rename_encoder
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
LOCAL = "local-dir:"
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")
ABOUT = (
    "CATImage: routes each prompt to the generator, or number of steps, that is worth its cost."
    " Serve it with `bentoml serve`.\n"
)


def run(workspace: Workspace, params: Params) -> None:
    """Writes ``dist/bento/`` (a Bento's folder) and ``dist/bento.json``, and leaves the Bento in
    BentoML's store.

    The Bento holds the services, the installed package's source with its pools, the router, and
    what the workspace has of the pool's weights and of the text encoder. Its tag is a hash of all
    that, so the same inputs have the same tag, and are built once.

    Raises:
        InputError: BentoML is not installed, no router is there, or the pool lacks a candidate that
            the router knows.
    """
    router = Router.load(workspace.router)
    pool = load_pool(params.pool, workspace.pools)
    if missing := sorted(set(router.candidates) - {c.candidate for c in pool.candidates}):
        raise InputError(
            f"{workspace.router}: the pool {pool.name!r} cannot make {', '.join(missing)}: set"
            " 'pool' to the one that can."
        )
    with TemporaryDirectory() as folder:
        bento = _built(_stage(Path(folder), workspace, params, pool), params.package.name)
    with replacing(workspace.dist / "bento") as fresh:
        shutil.copytree(bento.path, fresh)
    document = {"tag": str(bento.tag), "router": folder_digest(workspace.router), "pool": pool.name}
    with replacing(workspace.dist / "bento.json") as fresh:
        fresh.write_text(json.dumps(document, indent=2) + "\n")
    print(f"package: {bento.tag}, exported to {workspace.dist / 'bento'}", flush=True)


def _stage(folder: Path, workspace: Workspace, params: Params, pool: Pool) -> tuple[Path, str]:
    """Fills ``folder`` with what the Bento holds; returns it and its digest."""
    shutil.copytree(
        PACKAGE,
        folder / "catimage",
        ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "_bentos"),
    )
    shutil.copytree(_services(), folder / "bentos", ignore=IGNORED)
    shutil.copytree(workspace.router, folder / "models" / "router")
    name = _stage_pool(folder / "pools", pool) if pool.folder != PACKAGED else pool.file.stem
    settings = params.model_dump(mode="json", include={"metric", "cost_unit", "budget", "encoder"})
    tree = {"pool": name, **settings, "generate": {"device": params.generate.device}}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    (folder / "requirements.txt").write_text("\n".join(_requirements()) + "\n")
    loaded = {
        path.parent: store.load(path.parent)
        for path in sorted((folder / "models" / "router").rglob("estimator.skops"))
    }
    models = dict.fromkeys(
        encoder.model for estimator, _ in loaded.values() for encoder in encoders_of(estimator)
    )
    places = _stage_encoders(folder, list(models))
    digest = folder_digest(folder)
    for place, (estimator, meta) in loaded.items() if places else ():
        for old, new in places.items():
            rename_encoder(estimator, old, new)
        store.save(estimator, place, meta)
    return folder, digest


def _services() -> Path:
    """``bentos/``: in the package where that was installed from a wheel, at the repository's root
    where it is editable.
    """
    inside = PACKAGE / "_bentos"
    return inside if inside.is_dir() else PACKAGE.parents[1] / "bentos"


def _stage_pool(folder: Path, pool: Pool) -> str:
    """Copies a pool of the workspace with its local weights; returns its name there."""
    tree: dict[str, Any] = yaml.safe_load(pool.file.read_text(encoding="utf-8"))
    for name, spec in pool.generators.items():
        for key, source in kind_of(spec, pool.folder).local_folders().items():
            place = f"{pool.file.stem}/{name}/{key}"
            shutil.copytree(source, folder / place)
            _put(tree["generators"][name], key.split("."), place)
    folder.mkdir(exist_ok=True)
    (folder / f"{pool.file.stem}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return pool.file.stem


def _put(tree: dict[str, Any], keys: list[str], value: str) -> None:
    for key in keys[:-1]:
        tree = tree[key]
    tree[keys[-1]] = value


def _stage_encoders(folder: Path, models: list[str]) -> dict[str, str]:
    """Copies the text encoders that lie in folders; returns how the served router names each."""
    places: dict[str, str] = {}
    for model in models:
        kind, _, source = model.partition(":")
        named = (
            f"{kind}:" == SENTENCE_TRANSFORMERS_PREFIX and not Path(source).is_dir()
        )  # a model of the hub
        if f"{kind}:" not in (LOCAL, SENTENCE_TRANSFORMERS_PREFIX) or named:
            continue
        if not Path(source).is_dir():
            raise InputError(f"encoder.model: there is no folder {source!r} to put into the Bento.")
        place = f"encoder-{len(places) + 1}" if places else "encoder"
        shutil.copytree(source, folder / place, ignore=IGNORED)
        places[model] = f"{kind}:{place}"
    return places


def _requirements() -> list[str]:
    """What the package requires, and BentoML of the tested range."""
    known = requires("catimage") or []
    serving = [r.split(";")[0].strip() for r in known if "extra == 'serve'" in r.replace('"', "'")]
    return sorted([*(r for r in known if "extra ==" not in r), *serving])


def _built(staged: tuple[Path, str], name: str) -> Bento:
    """The Bento of a staged folder: from the store where it has been built before."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    try:
        import bentoml
    except ModuleNotFoundError as error:
        raise InputError("BentoML is not installed: pip install 'catimage[serve]'.") from error
    folder, digest = staged
    version = hashlib.sha256(f"{digest} {bentoml.__version__}".encode()).hexdigest()[:16]
    try:
        tag = bentoml.Tag(name, version)
    except ValueError as error:
        raise InputError(
            f"package.name: {name!r} cannot name a Bento: {str(error).rstrip('.')}."
        ) from error
    try:
        return bentoml.get(tag)
    except bentoml.exceptions.NotFound:
        python = {"requirements_txt": "requirements.txt", "lock_packages": False}
        return bentoml.build(
            SERVICE,
            name=tag.name,
            version=version,
            build_ctx=str(folder),
            python=python,
            description=ABOUT,
        )

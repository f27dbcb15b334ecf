"""Stage package: build and export a Bento of the router and its generators."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from catimage.common.hashing import file_digest, folder_digest
from catimage.common.lock import extras_of, locked_requirements
from catimage.common.wheel import build_wheel
from catimage.data.provenance import Provenance
from catimage.errors import InputError
from catimage.estimators.portable import (
    copy_local_encoders,
    encoder_models,
    reader_packages,
    use_copies,
)
from catimage.evaluation.router_folder import load_calibrated_router
from catimage.params import Params
from catimage.pool.bento_labels import bento_labels
from catimage.pool.copying import copy_pool
from catimage.pool.groups import GroupPlan, plan_groups
from catimage.pool.loading import PACKAGED, load_pool
from catimage.pool.service_module import MODULE, render_service_module
from catimage.pool.spec import Pool
from catimage.workspace import Workspace, replacing

if TYPE_CHECKING:
    from bentoml import Bento

WHEELS = "wheels"
"""Folder of the wheel in ``env/python`` of the Bento, where BentoML's Dockerfile runs pip."""
SECTIONS = {"metric", "cost_unit", "budget", "encoder", "serving", "package"}
"""The keys of ``params.yaml`` that the Bento contains, besides the pool and the device."""
DESCRIPTION = "CATImage: routes each prompt to a candidate. Serve it with `bentoml serve`.\n"


def run(workspace: Workspace, params: Params) -> None:
    """Write ``dist/bento/`` and ``dist/bento.json``, and add the Bento to BentoML's store.

    The Bento contains the service module, the wheel of the package, the versions of all packages,
    the router, and the model weights that are in local folders. Its tag is a hash of its content,
    so that equal content is built once.

    Raises:
        InputError: BentoML is missing, the router is missing or was calibrated for other
            parameters, tables or estimators, a candidate of the router or the folder of a text
            encoder is missing, or ``package.name`` or ``package.groups`` is invalid.
    """
    provenance = Provenance(workspace)
    router = load_calibrated_router(workspace, provenance, params.metric, params.cost_unit)
    pool = load_pool(params.pool, workspace.pools)
    if missing := sorted(set(router.candidates) - {c.candidate for c in pool.candidates}):
        raise InputError(
            f"{workspace.router}: the pool {pool.name!r} lacks {', '.join(missing)}. Set 'pool' to"
            " a pool with these candidates."
        )
    groups = plan_groups(pool, router.candidates, params.package.groups, params.generate.device)
    labels = bento_labels(workspace, pool)
    with TemporaryDirectory() as name:
        wheel, content = build_wheel(Path(name)), Path(name) / "content"
        digest = _write_content(content, wheel, workspace, params, pool, groups)
        bento = _build(content, digest, params.package.name, labels)
        with replacing(Path(bento.path) / "env" / "python" / WHEELS / wheel.name) as new:
            shutil.copy(wheel, new)
    document = {"tag": str(bento.tag), **labels}
    with replacing(workspace.dist / "bento") as new:
        shutil.copytree(bento.path, new)
    with replacing(workspace.dist / "bento.json") as new:
        new.write_text(json.dumps(document, indent=2) + "\n")
    print(f"package: {bento.tag}, exported to {workspace.dist / 'bento'}", flush=True)


def _write_content(
    folder: Path,
    wheel: Path,
    workspace: Workspace,
    params: Params,
    pool: Pool,
    groups: list[GroupPlan],
) -> str:
    """Write the content of the Bento, without the wheel, to ``folder``.

    Returns:
        The digest of the content and of the wheel before estimators are saved again, because saving
        an unchanged estimator changes its bytes.
    """
    router = shutil.copytree(workspace.router, folder / "models" / "router")
    module = render_service_module(groups, params.serving.drain_seconds)
    (folder / f"{MODULE}.py").write_text(module)
    if pool.folder != PACKAGED:
        copy_pool(pool, folder / "pools")
    settings = params.model_dump(mode="json", include=SECTIONS)
    settings |= {"pool": pool.file.stem, "generate": {"device": params.generate.device}}
    YAML().dump(settings, folder / "params.yaml")
    models = encoder_models(router)
    generator_kinds = [pool.generators[name].kind for group in groups for name in group.generators]
    extras = extras_of(generator_kinds, "sentence-transformers" in reader_packages(models))
    lock = locked_requirements(*extras)
    lines = [f"./{WHEELS}/{wheel.name}", *lock]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n")
    copies = copy_local_encoders(models, folder)
    digest = folder_digest(folder)
    use_copies(router, copies)
    return f"{digest} {file_digest(wheel)}"


def _build(folder: Path, digest: str, name: str, labels: dict[str, str]) -> Bento:
    """Return the Bento of a folder; build it unless it is in the store of BentoML."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    try:
        import bentoml
    except ModuleNotFoundError as error:
        raise InputError("BentoML: not installed. Run pip install 'catimage[serve]'.") from error
    content = json.dumps([digest, bentoml.__version__, labels]).encode()
    try:
        tag = bentoml.Tag(name, hashlib.sha256(content).hexdigest()[:16])
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise InputError(f"package.name: invalid name {name!r} ({reason}). Change it.") from error
    python = {"requirements_txt": "requirements.txt", "lock_packages": False}
    options: dict[str, Any] = {"name": name, "version": tag.version, "description": DESCRIPTION}
    options |= {"python": python, "labels": labels, "build_ctx": str(folder)}
    try:
        return bentoml.get(tag)
    except bentoml.exceptions.NotFound:
        return bentoml.build(f"{MODULE}:Router", **options)
    finally:
        sys.modules.pop(MODULE, None)  # the next Bento has another module of this name

"""Copies of pools with their local weights."""

from __future__ import annotations

import shutil
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from catimage.common.yaml_files import read_yaml
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool


def copy_pool(pool: Pool, folder: Path) -> None:
    """Copy the YAML file of a pool and its weights in local folders.

    In the copy of the YAML file, the paths of the weights are those of their copies.

    Args:
        pool: the pool.
        folder: the folder of the copies, which is created if it does not exist.
    """
    tree: dict[str, Any] = read_yaml(pool.file, YAML())
    for name, spec in pool.generators.items():
        for key, source in kind_of(spec, pool.folder).local_folders().items():
            copy = f"{pool.file.stem}/{name}/{key}"
            shutil.copytree(source, folder / copy)
            *sections, last = key.split(".")
            reduce(getitem, sections, tree["generators"][name])[last] = copy
    folder.mkdir(exist_ok=True)
    YAML().dump(tree, folder / f"{pool.file.stem}.yaml")

"""The service module of a Bento, which names a BentoML service per group of generators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import catimage
from catimage.pool.groups import GroupPlan

TEMPLATE = Path(catimage.__file__).parent / "serving" / "bento" / "service.py.j2"
MODULE = "catimage_service"
"""Name of the module; it must not be the name of an installed package."""


def render_service_module(groups: Sequence[GroupPlan], drain_seconds: float) -> str:
    """Return the source code of the service module.

    Args:
        groups: the generator services.
        drain_seconds: seconds that accepted requests have to finish after SIGTERM.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(groups=groups, drain_seconds=drain_seconds, class_name=_class_name)


def _class_name(group: str) -> str:
    """Return the name of the class of a group, such as ``SlowGroup`` for ``slow``."""
    name = "".join(part.capitalize() for part in group.split("-"))
    return name if name == "Generators" else f"{name}Group"

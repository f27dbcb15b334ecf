"""The generator services of a Bento: which generators share a process and a device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from catimage.errors import InputError
from catimage.params.evaluate import GroupParams
from catimage.pool.spec import Pool

LOCAL, HOSTED = "generators", "hosted"
"""Names of the default groups."""


@dataclass(frozen=True)
class GroupPlan:
    """A generator service of a Bento.

    Attributes:
        name: name of the group.
        generators: names of its generators.
        device: device of the generators.
    """

    name: str
    generators: tuple[str, ...]
    device: str

    @property
    def gpus(self) -> int:
        """Number of GPUs that BentoML gives to the group; a numbered device is used as it is."""
        return int(self.device == "cuda")


def plan_groups(
    pool: Pool, candidates: Iterable[str], groups: dict[str, GroupParams], device: str
) -> list[GroupPlan]:
    """Return the groups of a Bento.

    Args:
        pool: the pool.
        candidates: the candidates of the router, whose generators are served.
        groups: ``package.groups``; if it is empty, one group has the generators that need a device,
            and another one those of hosted models.
        device: default device of a group.

    Raises:
        InputError: a group names an unknown generator, or no group has a needed generator.
    """
    needed = list(dict.fromkeys(pool.candidate(name).generator for name in candidates))
    if not groups:
        hosted = [name for name in needed if pool.generators[name].kind == HOSTED]
        local = [name for name in needed if name not in hosted]
        plans = [GroupPlan(LOCAL, tuple(local), device), GroupPlan(HOSTED, tuple(hosted), "cpu")]
        return [plan for plan in plans if plan.generators]
    named = [name for group in groups.values() for name in group.generators]
    if unknown := [name for name in named if name not in pool.generators]:
        raise InputError(
            f"package.groups: the pool {pool.name!r} has no generator {unknown[0]!r}. Use one of"
            f" {', '.join(needed)}."
        )
    if missing := [name for name in needed if name not in named]:
        raise InputError(
            f"package.groups: no group has the generators {', '.join(missing)}. Add them to a"
            " group."
        )
    return [
        GroupPlan(name, tuple(group.generators), group.device or device)
        for name, group in groups.items()
    ]

"""The kinds of generators there are. A further kind is a subclass of ``GeneratorSpec`` in a file of
its own, and a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.distrifusion.spec import DistrifusionSpec
from catimage.pool.generators.hosted.spec import HostedSpec
from catimage.pool.generators.infinity.spec import InfinitySpec
from catimage.pool.generators.next_scale.spec import NextScaleSpec
from catimage.pool.spec import GeneratorSpec

KINDS: Mapping[str, type[GeneratorSpec]] = MappingProxyType(
    {
        "diffusers": DiffusersSpec,
        "distrifusion": DistrifusionSpec,
        "hosted": HostedSpec,
        "infinity": InfinitySpec,
        "next-scale": NextScaleSpec,
    }
)


def kind_of(tree: Any) -> str:
    """The kind that a generator's entry names; ``diffusers`` where it names none."""
    return str(
        tree.get("kind", "diffusers")
        if isinstance(tree, dict)
        else getattr(tree, "kind", "diffusers")
    )


AnyGenerator = Annotated[
    Annotated[DiffusersSpec, Tag("diffusers")]
    | Annotated[DistrifusionSpec, Tag("distrifusion")]
    | Annotated[HostedSpec, Tag("hosted")]
    | Annotated[InfinitySpec, Tag("infinity")]
    | Annotated[NextScaleSpec, Tag("next-scale")],
    Discriminator(kind_of),
]
"""A generator of any kind, as pydantic reads it."""

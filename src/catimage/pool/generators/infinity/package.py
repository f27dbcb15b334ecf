"""The official package of Infinity, which is imported only if a pool uses it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from catimage.errors import error_summary
from catimage.pool.generators.infinity.spec import InfinitySpec

_INSTALL = (
    "Clone FoundationVision/Infinity (commit 4c27bbb54a9918847a2fe56b0fbe31a8523791a1), install its"
    " requirements (with flash-attn, but without its version of torch), and add the clone's folder"
    " to PYTHONPATH"
)


@dataclass(frozen=True)
class Package:
    """Classes and tables of the official package.

    Attributes:
        transformer: class of the transformer.
        autoencoder: function that builds the autoencoder (the image tokenizer) from its weights.
        resolutions: table of scales by aspect ratio and resolution.
    """

    transformer: Any
    autoencoder: Any
    resolutions: Any


def official_package(spec: InfinitySpec) -> Package:
    """Import the official package.

    Raises:
        InputError: the package or one of its requirements is not installed.
    """
    try:
        return Package(
            import_module("infinity.models.infinity").Infinity,
            import_module("infinity.models.bsq_vae.vae").vae_model,
            import_module("infinity.utils.dynamic_resolution").dynamic_resolution_h_w,
        )
    except (ImportError, AttributeError) as error:
        raise spec.error(
            "kind",
            f"the official package of Infinity cannot be imported ({error_summary(error)})."
            f" {_INSTALL}.",
        ) from error

"""CATImage: cost-aware routing for text-to-image models.

This module is the public API. A name is imported when it is first used, so that
``import catimage`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catimage.data.dataset import Candidates, Dataset
    from catimage.errors import InputError
    from catimage.evaluation.evaluate import evaluate
    from catimage.params.loading import load_params
    from catimage.pool.loading import load_pool
    from catimage.router import Decision, Router
    from catimage.serving.client.client import Client
    from catimage.workspace import Workspace

_MODULES = {
    "Candidates": "catimage.data.dataset",
    "Client": "catimage.serving.client.client",
    "Dataset": "catimage.data.dataset",
    "Decision": "catimage.router",
    "InputError": "catimage.errors",
    "Router": "catimage.router",
    "Workspace": "catimage.workspace",
    "evaluate": "catimage.evaluation.evaluate",
    "load_params": "catimage.params.loading",
    "load_pool": "catimage.pool.loading",
}

__all__ = [
    "Candidates",
    "Client",
    "Dataset",
    "Decision",
    "InputError",
    "Router",
    "Workspace",
    "evaluate",
    "load_params",
    "load_pool",
]


def __getattr__(name: str) -> Any:
    """Import the module of a public name (PEP 562).

    Raises:
        AttributeError: the package has no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Return the names of the module, including those that have not been imported."""
    return sorted([*globals(), *__all__])

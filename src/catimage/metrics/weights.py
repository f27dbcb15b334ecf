"""Where a metric's weights lie (``label.weights``), and state dicts read without running what is in
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catimage.common.hub_errors import hub_error_message
from catimage.errors import InputError, error_summary
from catimage.metrics.metric import MetricContext
from catimage.params import Weights

if TYPE_CHECKING:
    import torch

PICKLES = (".pt", ".pth", ".bin", ".ckpt")


def weights_file(
    context: MetricContext, name: str, file: str, default: Weights | None = None
) -> Path:
    """One file of the weights of the metric ``name``; of a hub id, fetched unless it has been
    before.

    Args:
        file: its path in the folder or repository.
        default: where ``label.weights`` does not name the metric.

    Raises:
        InputError: nobody says where the weights are, they are not there, or the hub does not give
            them.
    """
    source = _source(context, name, file, default)
    folder = Path(source.weights)
    if folder.is_dir():
        if not (folder / file).is_file():
            raise InputError(
                f"{_key(name)}: there is no file {folder / file}; put it there, or name another"
                " folder."
            )
        return folder / file
    from huggingface_hub import hf_hub_download

    return _fetched(
        name, source, lambda: hf_hub_download(source.weights, file, revision=source.revision)
    )


def weights_folder(
    context: MetricContext, name: str, files: Sequence[str], default: Weights | None = None
) -> Path:
    """The folder of the weights of the metric ``name``; of a hub id, its files that match the
    patterns ``files`` are fetched.

    Raises:
        InputError: nobody says where the weights are, they are not there, or the hub does not give
            them.
    """
    source = _source(context, name, ", ".join(files), default)
    folder = Path(source.weights)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return _fetched(
        name,
        source,
        lambda: snapshot_download(
            source.weights, revision=source.revision, allow_patterns=list(files)
        ),
    )


def read_state(path: Path, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of a pickled state dict, of which only tensors and
    plain containers are unpickled.

    A state dict that lies under the key ``state_dict``, as trainers save it, is taken from there.

    Args:
        name: the metric, for the error.

    Raises:
        InputError: the file is damaged, of another kind, or a pickle of anything else.
    """
    if path.suffix not in (".safetensors", *PICKLES):
        raise InputError(
            f"{_key(name)}: {path} is no file of weights; give a .safetensors file, or a state dict"
            f" ({', '.join(PICKLES)})."
        )
    state = _loaded(path, name)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not _is_state(state):
        raise InputError(
            f"{_key(name)}: {path} holds no state dict (names and tensors); save the model's"
            " state_dict() there."
        )
    return dict(state)


def load_state(model: torch.nn.Module, path: Path, name: str) -> None:
    """Puts the weights of a file into ``model``, all of them and no others.

    Raises:
        InputError: the file cannot be read, or holds the weights of another model.
    """
    try:
        model.load_state_dict(read_state(path, name))
    except RuntimeError as error:
        raise InputError(
            f"{_key(name)}: {path} holds the weights of another model ({error_summary(error)})."
        ) from error


def _loaded(path: Path, name: str) -> Any:
    from pickle import UnpicklingError

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except UnpicklingError as error:
        raise InputError(
            f"{_key(name)}: {path} is damaged, or a pickle of more than tensors, which is not"
            " loaded."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(
            f"{_key(name)}: {path} is damaged ({error_summary(error)}); fetch it again."
        ) from error


def _is_state(state: Any) -> bool:
    import torch

    return (
        isinstance(state, dict)
        and bool(state)
        and all(isinstance(v, torch.Tensor) for v in state.values())
    )


def _source(context: MetricContext, name: str, files: str, default: Weights | None) -> Weights:
    source = context.weights.get(name, default)
    if source is None:
        raise InputError(
            f"{_key(name)}: say where the weights of {name!r} are: a folder, or a hub id with its"
            f" 'revision', with {files}."
        )
    if not Path(source.weights).is_dir() and source.revision is None:
        there = f"there is no folder {source.weights}"
        raise InputError(
            f"{_key(name)}: {there}; put the weights there or, for a hub id, add its 'revision'."
        )
    return source


def _fetched(name: str, source: Weights, fetch: Callable[[], Any]) -> Path:
    try:
        return Path(fetch())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{_key(name)}: {hub_error_message(error, source.weights, str(source.revision))}"
        ) from error


def _key(name: str) -> str:
    return f"params.yaml: label.weights.{name}"

"""Location of a metric's weights (``label.weights``), and safe reading of state dicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catimage.common.hub_errors import hub_error_message, is_hub_id
from catimage.errors import InputError, error_summary
from catimage.metrics.metric import MetricContext
from catimage.params import WeightsParams

if TYPE_CHECKING:
    import torch

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


def weights_file(
    context: MetricContext, name: str, file: str, default: WeightsParams | None = None
) -> Path:
    """Return the path of one file of a metric's weights, downloaded from the hub if necessary.

    Args:
        context: the context with ``label.weights``.
        name: the name of the metric.
        file: the path of the file in the folder or repository.
        default: the location to use if ``label.weights`` does not list the metric.

    Raises:
        InputError: no location is set, the file is not found, or the download fails.
    """
    source = _source(context, name, file, default)
    folder = Path(source.weights)
    if folder.is_dir():
        if not (folder / file).is_file():
            raise InputError(
                f"{_key(name)}: {folder / file} is not found. Put the file there, or set another"
                " folder."
            )
        return folder / file
    from huggingface_hub import hf_hub_download

    return _download(
        name, source, lambda: hf_hub_download(source.weights, file, revision=source.revision)
    )


def weights_folder(
    context: MetricContext, name: str, files: Sequence[str], default: WeightsParams | None = None
) -> Path:
    """Return the folder of a metric's weights, downloaded from the hub if necessary.

    Args:
        context: the context with ``label.weights``.
        name: the name of the metric.
        files: patterns of the files to download.
        default: the location to use if ``label.weights`` does not list the metric.

    Raises:
        InputError: no location is set, the folder is not found, or the download fails.
    """
    source = _source(context, name, ", ".join(files), default)
    folder = Path(source.weights)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return _download(
        name,
        source,
        lambda: snapshot_download(
            source.weights, revision=source.revision, allow_patterns=list(files)
        ),
    )


def read_state(path: Path, name: str) -> dict[str, torch.Tensor]:
    """Read a state dict from a safetensors file or a pickle.

    Only tensors and plain containers are unpickled. If the file has the key ``state_dict``, as
    checkpoints of training libraries have, the value of this key is returned.

    Args:
        path: the file.
        name: the name of the metric, for error messages.

    Raises:
        InputError: the file is missing, cannot be read, is damaged or of an unknown format, or is a
            pickle that contains objects other than tensors.
    """
    if path.suffix not in (".safetensors", *PICKLE_SUFFIXES):
        raise InputError(
            f"{_key(name)}: {path}: unknown format of weights. Use a .safetensors file or a pickled"
            f" state dict ({', '.join(PICKLE_SUFFIXES)})."
        )
    state = _read(path, name)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not _is_state_dict(state):
        raise InputError(
            f"{_key(name)}: {path} does not contain a state dict (names and tensors). Save the"
            " model's state_dict() there."
        )
    return dict(state)


def load_state(model: torch.nn.Module, path: Path, name: str) -> None:
    """Load the weights of a file into ``model``; the names of the tensors must match exactly.

    Raises:
        InputError: the file cannot be read, or has the weights of another model.
    """
    try:
        model.load_state_dict(read_state(path, name))
    except RuntimeError as error:
        raise InputError(
            f"{_key(name)}: {path} has the weights of another model ({error_summary(error)}). Set"
            " another file."
        ) from error


def _read(path: Path, name: str) -> Any:
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
            f"{_key(name)}: {path} is damaged, or is a pickle that contains objects other than"
            " tensors, which are not loaded. Download the file again, or use a safetensors file."
        ) from error
    except OSError as error:
        if not path.exists():
            raise InputError(f"{_key(name)}: {path} is not found. Put the file there.") from error
        raise InputError(
            f"{_key(name)}: {path} cannot be read. Check that it is a file and that you have"
            " permission to read it."
        ) from error
    except (EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{_key(name)}: {path} is damaged. Download it again.") from error


def _is_state_dict(state: Any) -> bool:
    import torch

    return (
        isinstance(state, dict)
        and bool(state)
        and all(isinstance(v, torch.Tensor) for v in state.values())
    )


def _source(
    context: MetricContext, name: str, files: str, default: WeightsParams | None
) -> WeightsParams:
    source = context.weights.get(name, default)
    if source is None:
        raise InputError(
            f"{_key(name)}: the location of the weights of {name!r} is not set. Set it to a folder"
            f" with {files}, or to a Hugging Face repository id (OWNER/NAME) with its 'revision'."
        )
    if not Path(source.weights).is_dir() and source.revision is None:
        raise InputError(
            f"{_key(name)}: the folder {source.weights} is not found. Put the weights there or,"
            " for a Hugging Face repository id (OWNER/NAME), add its 'revision'."
        )
    if not Path(source.weights).is_dir() and not is_hub_id(source.weights):
        raise InputError(
            f"{_key(name)}: the folder {source.weights} is not found, and it is not a Hugging"
            " Face repository id (OWNER/NAME). Correct the path, or put the weights there."
        )
    return source


def _download(name: str, source: WeightsParams, fetch: Callable[[], Any]) -> Path:
    try:
        return Path(fetch())
    except (OSError, ValueError) as error:
        message = hub_error_message(error, source.weights, str(source.revision))
        raise InputError(f"{_key(name)}: {message}") from error


def _key(name: str) -> str:
    return f"params.yaml: label.weights.{name}"

"""The generator of the kind ``distrifusion``: images from a worker process."""

from __future__ import annotations

import base64
import io
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catimage.common.hub_errors import hub_error_message, is_hub_id
from catimage.errors import InputError
from catimage.pool.generators.distrifusion import worker
from catimage.pool.generators.distrifusion.spec import DistrifusionSpec
from catimage.pool.spec import Candidate

REQUIREMENTS = (
    "distrifuser==0.0.1b1 torch==2.2.2 transformers==4.38.2 huggingface-hub==0.25.2"
    ' accelerate==0.27.2 "numpy<2"'
)
"""Requirements of the separate environment; distrifuser itself requires diffusers 0.24."""

_WORKER_OPTIONS = (
    "size",
    "pipeline",
    "dtype",
    "scheduler",
    "scheduler_options",
    "warmup_steps",
    "mode",
)
_WEIGHT_PATTERNS = ["*.json", "*.txt", "*/*.json", "*/*.txt", "*/*.safetensors"]
_LOG_LENGTH = 400


class DistrifusionGenerator:
    """Generates images in a worker process, which ends when this object is deleted.

    Raises:
        InputError: the environment or the weights are not found, or the worker does not start. The
            message contains the end of the worker's log.
    """

    def __init__(self, spec: DistrifusionSpec, folder: Path) -> None:
        self.spec = spec
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._process = _start_worker(spec, folder, self._log)
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read_lines, args=(self._process, self._lines), daemon=True).start()
        self._stop = weakref.finalize(self, _stop_worker, self._process)
        response = self._response(spec.start_timeout, "the start")
        if "error" in response:
            raise self._error(
                f"cannot start ({response['error']})", "Check its environment and GPUs"
            )

    def encode(self, prompts: list[str]) -> None:
        """Do nothing: the worker encodes each prompt with its image."""

    def generate(
        self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Any = None
    ) -> np.ndarray:
        """Generate one image per (prompt, seed) pair, one after the other.

        Args:
            prompts: n prompts.
            candidate: a candidate of this generator.
            seeds: n seeds.
            encoded: ignored.

        Returns:
            uint8 array of shape (n, size, size, 3).

        Raises:
            ValueError: the numbers of prompts and seeds differ.
            InputError: the worker fails, exits or does not respond. Finished shards are kept, so
                another run of the stage generates only the missing ones.
        """
        guidance = self.spec.with_settings_of(candidate).guidance
        settings = {"steps": candidate.steps, "guidance": guidance}
        return np.stack(
            [
                self._image({"prompt": prompt, "seed": seed, **settings})
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]
        )

    def _image(self, request: dict[str, Any]) -> np.ndarray:
        """Send one request to the worker, and return the image: uint8, (size, size, 3)."""
        description = f"the prompt {request['prompt']!r}"
        stdin = self._process.stdin
        with suppress(OSError):  # if the worker has exited, _response raises the error
            if stdin is not None:
                stdin.write(json.dumps(request) + "\n")
                stdin.flush()
        response = self._response(self.spec.timeout, description)
        if "error" in response:
            raise self._error(
                f"failed at {description} ({response['error']})", "Run the command again"
            )
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(response["png"]))).convert("RGB"))

    def _response(self, seconds: float, description: str) -> dict[str, Any]:
        """Read the worker's next response.

        Args:
            seconds: time limit.
            description: description of the request or of the start, for error messages.
        """
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty as error:
            self._stop()
            raise self._error(
                f"did not respond within {seconds:g} s at {description} and was terminated",
                "Increase 'timeout' or 'start_timeout', or run the command again",
            ) from error
        if line is None:
            self._lines.put(None)  # for the next call
            end = f"exit code {self._process.wait()}; the end of its log: {self._end_of_log()}"
            raise self._error(f"exited at {description} ({end})", "Run the command again")
        response: dict[str, Any] = json.loads(line)
        return response

    def _error(self, problem: str, fix: str) -> InputError:
        return self.spec.error("python", f"DistriFusion's worker {problem}. {fix}.")

    def _end_of_log(self) -> str:
        self._log.seek(0)
        text = " ".join(self._log.read().decode(errors="replace").split())
        return text[-_LOG_LENGTH:] or "empty"


def interpreter(spec: DistrifusionSpec, folder: Path) -> Path:
    """Return the Python interpreter of the environment of ``distrifuser``.

    Raises:
        InputError: the interpreter is not found. The message contains the commands that create the
            environment.
    """
    path = folder / Path(spec.python).expanduser()
    if not path.is_file():
        home = path.parent.parent
        commands = f"uv venv --python 3.11 {home} && uv pip install --python {path} {REQUIREMENTS}"
        raise spec.error(
            "python",
            f"the file {path} is not found. Create the environment of distrifuser with:"
            f" {commands}.",
        )
    return path


def weights_folder(spec: DistrifusionSpec, folder: Path) -> Path:
    """Return a folder with safetensors weights, downloaded if necessary.

    The package ``distrifuser`` itself can neither select a revision nor refuse pickles.

    Raises:
        InputError: the weights are unavailable, or the denoiser has no safetensors file.
    """
    path = folder / spec.weights
    if not path.is_dir():
        path = _download_weights(spec, path)
    if not list((path / "unet").glob("*.safetensors")):
        raise spec.error(
            "weights",
            f"there is no safetensors file in {path / 'unet'}. Convert the weights; pickles are"
            " not loaded.",
        )
    return path


def _download_weights(spec: DistrifusionSpec, path: Path) -> Path:
    if spec.revision is None:
        raise spec.error(
            "weights",
            f"the folder {path} is not found. Put the weights there or, for a hub id, add its"
            " 'revision'.",
        )
    if not is_hub_id(spec.weights):
        raise spec.error(
            "weights",
            f"the folder {path} is not found, and {spec.weights!r} is not a hub id, which has the"
            " form OWNER/NAME. Correct the path, or put the weights there.",
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                spec.weights,
                revision=spec.revision,
                allow_patterns=_WEIGHT_PATTERNS,
                ignore_patterns=["*.fp16.*"],
            )
        )
    except (OSError, ValueError) as error:
        message = hub_error_message(error, spec.weights, spec.revision)
        raise spec.error("weights", message) from error


def _start_worker(spec: DistrifusionSpec, folder: Path, log: Any) -> subprocess.Popen[str]:
    """Start the worker in its own session, so that all its processes can be ended together."""
    options = {
        **{name: getattr(spec, name) for name in _WORKER_OPTIONS},
        "weights": str(weights_folder(spec, folder).resolve()),
    }
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={spec.devices}"]
    return subprocess.Popen(
        [str(interpreter(spec, folder)), *launcher, worker.__file__, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def _read_lines(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    """Put the lines of the worker's output into a queue, and None after the last line."""
    if process.stdout is not None:
        with process.stdout as output:
            for line in output:
                lines.put(line)
    lines.put(None)


def _stop_worker(process: subprocess.Popen[str]) -> None:
    """End the worker and all its processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(OSError):  # raised if requests are still buffered
        if process.stdin is not None:
            process.stdin.close()

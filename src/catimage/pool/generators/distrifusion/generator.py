"""Images from a worker process in DistriFusion's own environment."""

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

from catimage.errors import InputError
from catimage.pool.generators.distrifusion import worker
from catimage.pool.generators.distrifusion.spec import DistrifusionSpec
from catimage.pool.spec import Candidate

PACKAGES = (
    "distrifuser==0.0.1b1 torch==2.2.2 transformers==4.38.2 huggingface-hub==0.25.2"
    ' accelerate==0.27.2 "numpy<2"'
)
"""Requirements of the separate environment; distrifuser itself requires diffusers 0.24."""


class DistrifusionGenerator:
    """A running worker; it ends with this object.

    Raises:
        InputError: there is no environment, no weights, or the worker does not start; with what it
            said last.
    """

    def __init__(self, spec: DistrifusionSpec, folder: Path) -> None:
        self.spec = spec
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._process = _started(spec, folder, self._log)
        self._answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(self._process, self._answers), daemon=True).start()
        self._stop = weakref.finalize(self, _stopped, self._process)
        started = self._answer(spec.start_timeout, "starting")
        if "error" in started:
            raise self._failed(f"cannot start: {started['error']}")

    def encode(self, prompts: list[str]) -> None:
        """Nothing: the worker encodes each prompt with its image."""

    def generate(
        self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Any = None
    ) -> np.ndarray:
        """One image a (prompt, seed) pair, one by one, as the package has it: uint8 (n, size, size,
        3).

        Raises:
            ValueError: there are not as many seeds as prompts.
            InputError: the worker fails, dies or hangs; finished shards are kept, and a further run
                continues.
        """
        settled = self.spec.with_settings_of(candidate)
        common = {"steps": candidate.steps, "guidance": settled.guidance}
        return np.stack(
            [
                self._image({"prompt": p, "seed": s, **common})
                for p, s in zip(prompts, seeds, strict=True)
            ]
        )

    def _image(self, request: dict[str, Any]) -> np.ndarray:
        what = f"the prompt {request['prompt']!r}"
        pipe = self._process.stdin
        with suppress(OSError):  # a worker that is dead says so when it is read
            if pipe is not None:
                pipe.write(json.dumps(request) + "\n")
                pipe.flush()
        answer = self._answer(self.spec.timeout, what)
        if "error" in answer:
            raise self._failed(f"failed at {what}: {answer['error']}")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["png"]))).convert("RGB"))

    def _answer(self, seconds: float, what: str) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty as error:
            self._stop()
            raise self._failed(f"hung for {seconds:g} s at {what} and was ended") from error
        if line is None:
            self._answers.put(None)  # for the next one who asks
            code = self._process.wait()
            raise self._failed(
                f"died at {what} (exit code {code}), and said last: {self._last_words()}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failed(self, message: str) -> InputError:
        return self.spec.error("python", f"DistriFusion's worker {message.rstrip('.')}.")

    def _last_words(self) -> str:
        self._log.seek(0)
        text = " ".join(self._log.read().decode(errors="replace").split())
        return text[-400:] or "nothing"


def interpreter(spec: DistrifusionSpec, folder: Path) -> Path:
    """Return the Python interpreter of the environment of ``distrifuser``.

    Raises:
        InputError: it does not exist; the message has the commands that create the environment.
    """
    path = folder / Path(spec.python).expanduser()
    if not path.is_file():
        home = path.parent.parent
        commands = f"uv venv --python 3.11 {home} && uv pip install --python {path} {PACKAGES}"
        raise spec.error(
            "python",
            f"there is no {path}. Create the environment of distrifuser with: {commands}.",
        )
    return path


def weights_folder(spec: DistrifusionSpec, folder: Path) -> Path:
    """A folder with the weights as safetensors: the package can neither pin a revision nor refuse
    pickles.

    Raises:
        InputError: the weights are not to be had, or its denoiser is no safetensors file.
    """
    path = folder / spec.weights
    if not path.is_dir():
        path = _fetched(spec, path)
    if not list((path / "unet").glob("*.safetensors")):
        raise spec.error(
            "weights",
            f"{path / 'unet'} holds no safetensors; pickles are refused, so give weights that have"
            " them.",
        )
    return path


def _fetched(spec: DistrifusionSpec, path: Path) -> Path:
    if spec.revision is None:
        raise spec.error(
            "weights",
            f"there is no folder {path}; put the weights there or, for a hub id, add its"
            " 'revision'.",
        )
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "*/*.json", "*/*.txt", "*/*.safetensors"]
    try:
        return Path(
            snapshot_download(
                spec.weights,
                revision=spec.revision,
                allow_patterns=patterns,
                ignore_patterns=["*.fp16.*"],
            )
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise spec.error(
            "weights", f"cannot fetch {spec.weights!r} at revision {spec.revision!r}: {reason}."
        ) from error


def _started(spec: DistrifusionSpec, folder: Path, log: Any) -> subprocess.Popen[str]:
    """The worker, in a session of its own, so that all of its processes can be ended together."""
    names = ("size", "pipeline", "dtype", "scheduler", "scheduler_options", "warmup_steps", "mode")
    options = {
        **{name: getattr(spec, name) for name in names},
        "weights": str(weights_folder(spec, folder).resolve()),
    }
    launcher = [
        str(interpreter(spec, folder)),
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={spec.devices}",
    ]
    return subprocess.Popen(
        [*launcher, worker.__file__, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def _read(process: subprocess.Popen[str], answers: queue.Queue[str | None]) -> None:
    """Takes the worker's lines as they come; None is its end."""
    if process.stdout is not None:
        with process.stdout as lines:
            for line in lines:
                answers.put(line)
    answers.put(None)


def _stopped(process: subprocess.Popen[str]) -> None:
    """Ends the worker and all of its processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(OSError):  # what was not sent yet
        if process.stdin is not None:
            process.stdin.close()

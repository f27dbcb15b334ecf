"""The services that the benchmarks compare, started with the same pool and the same bodies."""

from __future__ import annotations

import base64
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.serving.load import Call
from benchmarks.serving.options import Options
from benchmarks.serving.processes import ServerProcess, free_port

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "src/catimage/pools/tiny/sd"
"""Folder of the pipeline of the generator tiny-sd in diffusers' format."""
CANDIDATE, STEPS, GUIDANCE = "tiny-sd-4", 4, 3.0
"""The candidate of the comparison, and its settings in a call of the pipeline."""
GENERATIONS, ROUTE = "/v1/images/generations", "/v1/route"
OFF = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
"""Variables that switch off usage tracking and downloads."""


@dataclass(frozen=True)
class Target:
    """A running service.

    Attributes:
        name: name in the table.
        server: the process.
        call: makes the request for n images of the candidate from a prompt, a seed and n.
        images: returns the PNG files in an answer.
    """

    name: str
    server: ServerProcess
    call: Callable[[str, int, int], Call]
    images: Callable[[Any], list[bytes]]


def pixels(image: bytes) -> np.ndarray:
    """Return the pixels of an encoded image: uint8, (height, width, 3)."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def pinned_call(prompt: str, seed: int, n: int = 1, candidate: str = CANDIDATE) -> Call:
    """Return the request for n images of one candidate."""
    body = {"prompt": prompt, "seed": seed, "n": n, "model": candidate}
    return Call(GENERATIONS, body, n)


def routed_call(prompt: str, seed: int, n: int = 1, **fields: Any) -> Call:
    """Return the request for n images that the router decides."""
    return Call(GENERATIONS, {"prompt": prompt, "seed": seed, "n": n} | fields, n)


def answered_images(answer: Any) -> list[bytes]:
    """Return the image files in an answer of CATImage."""
    return [base64.b64decode(image["b64_json"]) for image in answer["data"]]


def _plain_call(prompt: str, seed: int, n: int) -> Call:
    body = {"prompt": prompt, "seed": seed, "n": n, "steps": STEPS, "guidance": GUIDANCE}
    return Call("/generate", body, n)


def _plain_images(answer: Any) -> list[bytes]:
    return [base64.b64decode(image) for image in answer]


@contextmanager
def baseline(name: str) -> Iterator[Target]:
    """Start one of the services of ``baselines``: ``bentoml_plain`` or ``request_scoped``."""
    port, module = free_port(), f"benchmarks.serving.baselines.{name}"
    command = {
        "bentoml_plain": ["bentoml", "serve", f"{module}:PlainService", "--host", "127.0.0.1"],
        "request_scoped": ["uvicorn", f"{module}:app", "--log-level", "warning"],
    }[name]
    env = OFF | {"PIPELINE_FOLDER": str(PIPELINE), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-m", *command, "--port", str(port)]
        with ServerProcess(arguments, port, Path(folder), env) as server:
            server.wait_ready()
            yield Target(name, server, _plain_call, _plain_images)


class Package:
    """A workspace that has been packaged with the present code.

    Attributes:
        folder: the workspace.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def build(cls, workspace: Path, folder: Path) -> Self:
        """Copy what serving needs from ``workspace`` to ``folder``, and run the stage package."""
        from catimage.params import load_params
        from catimage.stages import package
        from catimage.workspace import Workspace

        for name in ("models", "pools", "data", "reports"):
            if (workspace / name).is_dir():
                ignored = shutil.ignore_patterns("images", "embeddings")
                shutil.copytree(workspace / name, folder / name, ignore=ignored)
        shutil.copy(workspace / "params.yaml", folder)
        os.environ["BENTOML_HOME"] = str(folder / "bentoml")
        package.run(Workspace(folder), load_params(folder / "params.yaml"))
        return cls(folder)

    @contextmanager
    def serve(self, wait: bool = True, **settings: Any) -> Iterator[Target]:
        """Start the service with an empty state.

        Args:
            wait: whether to wait until it is ready and has measured its speeds.
            settings: keys of the section ``serving`` of params.yaml.
        """
        with (
            tempfile.TemporaryDirectory() as home,
            self.process(Path(home), serving_variables(settings)) as server,
        ):
            if wait:
                server.wait_ready()
                server.wait_measured()
            yield Target("CATImage", server, pinned_call, answered_images)

    def process(self, home: Path, env: Mapping[str, str] | None = None) -> ServerProcess:
        """Start the service; ``home`` is its working directory and has its state."""
        port = free_port()
        bento = str(self.folder / "dist" / "bento")
        command = [sys.executable, "-m", "bentoml", "serve", bento, "--host", "127.0.0.1"]
        state = {"CATIMAGE_HOME": str(home / "state"), "BENTOML_HOME": str(home / "bentoml")}
        return ServerProcess(
            [*command, "--port", str(port)], port, home, OFF | state | dict(env or {})
        )


@contextmanager
def packaged(options: Options) -> Iterator[Package]:
    """Package the workspace of the options in a temporary folder, unless it is packaged already."""
    if options.packaged is not None:
        yield Package(options.packaged)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Package.build(options.workspace, Path(folder))


def serving_variables(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables of settings of the section ``serving``."""
    return {f"CATIMAGE_SERVING__{key.upper()}": str(value) for key, value in settings.items()}


def captions(count: int, seed: int = 0) -> list[str]:
    """Return different random captions of the scene grammar of the embedded pool."""
    from catimage.scenes.grammar import sample_scene

    rng = np.random.default_rng(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts.setdefault(sample_scene(rng).caption())
    return list(texts)

"""Fast ``catimage`` commands for tests: a server imports the libraries once and forks for each one.

``forked_catimage`` starts the server and yields a command line that replaces ``catimage``. Run as a
script, this module is the server, or the client that such a command line starts.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def forked_catimage(folder: Path) -> Iterator[str]:
    """Start the server, and stop it at the end.

    Args:
        folder: the folder of the server's socket; its path must be short.
    """
    address = folder / "catimage.socket"
    with subprocess.Popen(
        [sys.executable, __file__, "serve", address], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()  # the server is ready
        yield f"{sys.executable} -S {__file__} {address}"
        server.terminate()


def serve(address: str) -> None:
    """Run the commands of clients, one at a time, each in a child process."""
    import diffusers
    import great_expectations
    import sklearn.linear_model
    import transformers

    from catimage.encoders import open_clip
    from catimage.stages import calibrate, evaluate, generate, label, sample, train, validate

    modules = (diffusers.StableDiffusionPipeline, great_expectations, sklearn, open_clip)
    stages = (sample, generate, label, validate, train, calibrate, evaluate)
    assert modules and stages and transformers.CLIPTextModel  # the children inherit these imports
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            with client:
                message, outputs, _, _ = socket.recv_fds(client, 1 << 16, 2)
                child = os.fork()
                if child == 0:
                    _run(json.loads(message), outputs)
                for output in outputs:
                    os.close(output)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                client.sendall(str(status).encode())


def _run(request: dict[str, object], outputs: list[int]) -> None:
    """Run one command in a child process of the server, and end the process."""
    from catimage.cli.app import main

    status = 1
    try:
        os.chdir(str(request["folder"]))
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
        sys.argv = ["catimage", *request["arguments"]]  # type: ignore[misc]
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def request(address: str, arguments: list[str]) -> int:
    """Let the server run a command with the outputs of this process; return its exit code."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        message = json.dumps({"folder": os.getcwd(), "arguments": arguments})  # noqa: PTH109
        socket.send_fds(client, [message.encode()], [1, 2])
        return int(client.recv(16) or 1)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(request(sys.argv[1], sys.argv[2:]))

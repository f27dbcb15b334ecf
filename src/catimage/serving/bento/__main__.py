"""Serves the Bento of a workspace with the code in the Bento: ``python -m catimage.serving.bento``.

``bentoml serve`` uses the code that is installed. In a checkout that is the code of the checkout,
which may be newer than the Bento. This command unpacks the wheel of the Bento and runs its code.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from zipfile import ZipFile

from catimage.common.hashing import file_digest
from catimage.errors import InputError
from catimage.params import load_params
from catimage.params.serving import ServingParams
from catimage.serving.settings import load_environment, load_settings
from catimage.serving.state.database import parsed
from catimage.workspace import Workspace, replacing

EXAMPLE = """{"prompt": "two small red rings", "quality": "low"}"""


def main() -> None:
    """Print the address and an example, and replace this process with ``bentoml serve``."""
    parser = argparse.ArgumentParser(prog="python -m catimage.serving.bento", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    options = parser.parse_args()
    workspace = Workspace(options.workspace.absolute())
    try:
        _check_environment(workspace)
        tag, code = _tag(workspace), unpacked_code(workspace)
    except InputError as error:
        sys.exit(f"error: {error}")
    url = f"http://{'127.0.0.1' if options.host == '0.0.0.0' else options.host}:{options.port}"
    print(f"Serving {tag} at {url} (ready when {url}/readyz answers 200)")
    print(f"Playground   {url}/")
    print(f"Try          curl {url}/v1/route -H 'content-type: application/json' -d '{EXAMPLE}'")
    print(f"             OPENAI_BASE_URL={url}/v1 for OpenAI's clients; docs/clients.md")
    sys.stdout.flush()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(code), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    bento = str(workspace.dist / "bento")
    place = ["--host", options.host, "--port", str(options.port)]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", bento, *place])


def _check_environment(workspace: Workspace) -> None:
    """Check the settings in environment variables, which a started service would wait to be
    corrected for ever.

    Raises:
        InputError: a variable has an invalid value, or its key is unknown.
    """
    params = load_params(workspace.params) if workspace.params.exists() else None
    load_settings(params.serving if params else ServingParams())
    parsed(load_environment().state(params.package.name if params else "catimage"))


def _tag(workspace: Workspace) -> str:
    path = workspace.dist / "bento.json"
    if not path.is_file():
        raise InputError(f"{path}: not found. Run 'make demo' or 'catimage package' first.")
    return str(json.loads(path.read_text())["tag"])


def unpacked_code(workspace: Workspace) -> Path:
    """Return a folder with the content of the wheel in the Bento of a workspace.

    Raises:
        InputError: the Bento has no wheel.
    """
    folder = workspace.dist / "bento" / "env" / "python" / "wheels"
    wheel = next(folder.glob("catimage-*.whl"), None)
    if wheel is None:
        raise InputError(f"{folder}: no wheel of CATImage. Run 'catimage package' again.")
    code = workspace.root / ".catimage" / "served" / file_digest(wheel)[:16]
    if not code.is_dir():
        with replacing(code) as new, ZipFile(wheel) as archive:
            archive.extractall(new)
    return code


if __name__ == "__main__":
    main()

"""Loaded versions of the router."""

import subprocess
import sys

CODE = """
import sys
from pathlib import Path
from catimage.router import Router
from catimage.serving.decisions.versions import RouterVersion
version = RouterVersion("1", Router.load(Path(sys.argv[1])))
version.warm_up()
print(version.encoder.name, sorted({"torch", "open_clip", "transformers"} & set(sys.modules)))
"""


def test_a_router_is_loaded_and_predicts_without_torch(knn_folder):
    command = [sys.executable, "-c", CODE, str(knn_folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "tiny []"

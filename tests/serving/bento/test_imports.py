"""The service module is light: the supervisor imports it, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CHECK = """
import sys
import bentos.catimage_service as module
heavy = "torch sklearn scipy pandas pyarrow mlflow diffusers transformers great_expectations"
print(sorted(set(heavy.split()) & set(sys.modules)), sorted(module.Router.all_services()))
"""


def test_importing_the_service_module_imports_no_models() -> None:
    command = [sys.executable, "-c", CHECK]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] ['generators', 'router']"

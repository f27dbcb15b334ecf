"""Shell commands of a page of the documentation, which tests run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def run_documented(page: str, name: str, **variables: str | Path) -> None:
    """Run the commands after the comment ``<!-- name -->`` of a page.

    Args:
        page: the name of the file in ``docs/``.
        name: the comment before the block of commands.
        variables: environment variables that the commands use.
    """
    text = (DOCS / page).read_text()
    (commands,) = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)```", text, re.DOTALL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path} | {k: str(v) for k, v in variables.items()}
    command = ["bash", "-euo", "pipefail", "-c", commands]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

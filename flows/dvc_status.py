"""Runs the DVC stage ``sources``, then prints which stages are out of date.

Usage: ``python dvc_status.py STAGE ...``. The last line of the output is the JSON document of ``dvc
status`` for the stages and those before them. Both commands of DVC run in one process, because it
takes longer to start DVC than to compare the files of all stages with ``dvc.lock``.
"""

import sys

from dvc.cli import main

if __name__ == "__main__":
    sys.exit(main(["repro", "sources"]) or main(["status", "--json", "--with-deps", *sys.argv[1:]]))

"""The Prefect flows, and their setup: retrain, monitor, check_served, promote, rollback, backfill.

The modules import each other relatively (``from .stages import ...``), and ``prefect.yaml`` names
flows by module: an installed CATImage has them as ``catimage.flows``.
"""

import sys

try:
    import prefect as _prefect  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"catimage: {error.name} is not installed. Run pip install 'catimage[flows]', or run 'dvc"
        " repro', which needs no Prefect."
    )

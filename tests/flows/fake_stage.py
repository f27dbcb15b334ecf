"""Stands in for ``catimage`` in the flow's tests: logs its stage, fails as often as asked, and
copies outputs made beforehand.
"""

import shutil
import sys
from pathlib import Path

OUTPUTS = {
    "sample": ["data/embeddings", "data/prompts.parquet"],
    "generate": ["data/candidates.parquet", "data/images"],
    "label": ["data/scores.parquet"],
    "validate": ["reports/validation.json"],
    "train": ["models/estimators"],
    "calibrate": ["models/router"],
    "evaluate": ["reports/metrics.json", "reports/plots", "reports/report.html"],
    "package": ["dist/bento", "dist/bento.json"],
}

made, stage = Path(sys.argv[1]), sys.argv[2]
with Path("ran.txt").open("a") as log:
    log.write(f"{stage}\n")
print(f"{stage}: at work", flush=True)
failures = Path(f"fail-{stage}")
if failures.exists() and (left := int(failures.read_text())):
    failures.write_text(str(left - 1))
    sys.exit(f"{stage}: as asked")
for name in OUTPUTS[stage]:
    out = Path(name)
    out.parent.mkdir(parents=True, exist_ok=True)
    if (made / name).is_dir():
        shutil.copytree(made / name, out, dirs_exist_ok=True)
    else:
        shutil.copy(made / name, out)

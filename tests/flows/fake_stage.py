"""A replacement for ``catimage`` in the tests of the flow.

The script appends the name of the stage to ``ran.txt`` and copies prepared outputs. If the file
``fail-STAGE`` contains the number n, the next n calls for this stage fail, with the exit status in
``status-STAGE`` (default 1). ``sleep-STAGE`` contains a delay in seconds. For ``sources``, it
writes the section of ``params.yaml`` of each stage to ``data/sources.json``.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import yaml

OUTPUTS = {
    "sample": ["data/embeddings", "data/prompts.parquet"],
    "generate": ["data/candidates.parquet", "data/images"],
    "label": ["data/scores.parquet"],
    "validate": ["reports/validation.json"],
    "train": ["models/estimators"],
    "calibrate": ["models/router"],
    "evaluate": [
        "reports/metrics.json",
        "reports/off_policy.json",
        "reports/plots",
        "reports/report.html",
    ],
    "package": ["dist/bento", "dist/bento.json"],
}

prepared, stage = Path(sys.argv[1]), sys.argv[2]
if stage == "sources":
    params = yaml.safe_load(Path("params.yaml").read_text())
    inputs = {
        name: {"code": "", "files": {}, "packages": {}, "parameters": params.get(name, {})}
        for name in OUTPUTS
    }
    Path("data/traffic").mkdir(parents=True, exist_ok=True)
    Path("data/sources.json").write_text(json.dumps(inputs))
    sys.exit()
with Path("ran.txt").open("a") as log:
    log.write(f"{stage}\n")
print(f"{stage}: running", flush=True)
failures = Path(f"fail-{stage}")
if failures.exists() and (remaining := int(failures.read_text())):
    failures.write_text(str(remaining - 1))
    print(f"{stage}: requested failure", file=sys.stderr, flush=True)
    status = Path(f"status-{stage}")
    sys.exit(int(status.read_text()) if status.exists() else 1)
if (delay := Path(f"sleep-{stage}")).exists():
    time.sleep(float(delay.read_text()))
for name in OUTPUTS[stage]:
    out = Path(name)
    out.parent.mkdir(parents=True, exist_ok=True)
    if (prepared / name).is_dir():
        shutil.copytree(prepared / name, out, dirs_exist_ok=True)
    elif (prepared / name).exists() or name != "reports/off_policy.json":
        shutil.copy(prepared / name, out)
    else:
        out.write_text('{"requests": 0}')

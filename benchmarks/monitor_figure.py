"""A figure of one simulated service whose prompts change twice: ``docs/monitoring.png``.

    python -m benchmarks.monitor_figure [FILE]

Three days each of COCO, DiffusionDB and PartiPrompts. Six hours after an alarm, the router has been
trained on half of the new kind of prompts too, of which the traffic is the other half.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np

from benchmarks.monitor import SEQUENCE, encoders
from benchmarks.monitor_data import Traffic, shared_folder, traffic
from benchmarks.monitor_simulation import SETTINGS, sizes
from catimage.monitoring.prompt_drift import PromptDrift
from catimage.monitoring.reference import Reference

DAYS, TRAINING_HOURS = 3, 6


@dataclass
class Run:
    """The AUC and the limit of each hour, and the hours of alarms and of the end of trainings."""

    auc: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)
    alarms: list[int] = field(default_factory=list)
    trained_after: list[int] = field(default_factory=list)


def simulate(data: Traffic, seed: int = 0) -> Run:
    """Simulate the service hour by hour."""
    rng, run, known = np.random.default_rng(seed), Run(), data.train
    halves = {kind: np.array_split(rng.permutation(data.rows[kind]), 2) for kind in SEQUENCE}
    reference, state = _start(known)
    threshold = np.log(SETTINGS.threshold(SETTINGS.max_requests))
    for hour, n in enumerate(sizes(DAYS * 24 * len(SEQUENCE))):
        kind = SEQUENCE[hour // (DAYS * 24)]
        if run.alarms and hour == run.alarms[-1] + TRAINING_HOURS:
            known = np.concatenate([known, data.embeddings[halves[kind][1]]])
            reference, state = _start(known)
            run.trained_after.append(hour)
        points = reference.coordinates(data.embeddings[rng.choice(halves[kind][0], n)])
        run.limit.append(float(state.limit(SETTINGS.prompts)[0]))
        state, ranks = state.update(reference, points[None], SETTINGS.prompts)
        run.auc.append(float(ranks.mean()))
        waiting = run.alarms and hour < run.alarms[-1] + SETTINGS.cooldown_hours
        if state.evidence[0] >= threshold and not waiting:
            run.alarms.append(hour)
            state = state.restarted()
    return run


def _start(embeddings: np.ndarray) -> tuple[Reference, PromptDrift]:
    reference = Reference.fit(embeddings)
    return reference, PromptDrift.start(reference.points.shape[1])


def save(runs: dict[str, Run], path: str) -> None:
    """Draw one panel for each encoder."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        len(runs), 1, figsize=(9, 2.6 * len(runs)), sharex=True, squeeze=False
    )
    for axes, (name, run) in zip(panels[:, 0], runs.items(), strict=True):
        days = (np.arange(len(run.auc)) + 1) / 24
        axes.plot(days, run.auc, lw=1, label="AUC of an hour")
        axes.plot(days, run.limit, "k--", lw=1, label="limit")
        for label, hours, color in (
            ("alarm", run.alarms, "tab:red"),
            ("trained again", run.trained_after, "tab:green"),
        ):
            for i, hour in enumerate(hours):
                axes.axvline((hour + 1) / 24, color=color, lw=1, label=None if i else label)
        for i, kind in enumerate(SEQUENCE):
            axes.text(DAYS * i + 0.1, 1.02, kind)
        axes.set(ylabel=f"AUC, {name}", ylim=(0.3, 1.1), xlim=(0, DAYS * len(SEQUENCE)))
    panels[-1, 0].set_xlabel("day (1,000 requests each)")
    panels[0, 0].legend(loc="lower right", fontsize=8, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    if not shared_folder().is_dir():
        print(f"{shared_folder()}: not found. Set CATIMAGE_SHARED to the shared folder.")
        return
    runs = {name: simulate(traffic(encoder)) for name, encoder in encoders().items()}
    for name, run in runs.items():
        print(f"{name}: alarms after hours {[h + 1 for h in run.alarms]}")
    save(runs, sys.argv[1] if len(sys.argv) > 1 else "docs/monitoring.png")


if __name__ == "__main__":
    main()

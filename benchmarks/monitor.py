"""False alarms and delays of the checks of prompts of ``catimage monitor``, on real prompts.

    python -m benchmarks monitor

The reference is one half of the captions of COCO; steady traffic is drawn from the other half, at
1,000 requests a day with hourly checks. After a shift, every request is drawn from PartiPrompts or
DiffusionDB. The parameters were chosen on COCO and PartiPrompts alone. The environment variable
``CATIMAGE_MINILM`` names a folder with the sentence-transformers model MiniLM; without it, only the
embedded encoder is measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from benchmarks.monitor_alternatives import Distances, PageHinkley, WindowedMmd
from benchmarks.monitor_data import Traffic, shared_folder, traffic
from benchmarks.monitor_simulation import (
    DAYS,
    SETTINGS,
    NewDetector,
    Prompts,
    Streams,
    delays,
    false_alarms,
)
from catimage.params import EncoderParams, SampleParams

TARGET_ALARMS, TARGET_DELAY = 12, 200
DETECTORS: dict[str, NewDetector] = {
    "check prompts": Prompts,
    "check streams (ADWIN of distances)": Streams,
    "alternative: e-detector of distances": Distances,
    "alternative: MMD of a window of 100": WindowedMmd,
    "alternative: Page-Hinkley of distances": PageHinkley,
}
SEQUENCE = ("coco", "diffusiondb", "partiprompts")


def encoders() -> dict[str, EncoderParams]:
    """The encoders to measure, by name."""
    found = {"embedded CLIP": EncoderParams()}
    if folder := os.environ.get("CATIMAGE_MINILM"):
        found["MiniLM"] = EncoderParams(model=f"sentence-transformers:{folder}")
    return found


def rows() -> Iterator[str]:
    if not shared_folder().is_dir():
        yield f"| monitor: {shared_folder()} not found; set CATIMAGE_SHARED | | | | |"
        return
    for name, encoder in encoders().items():
        data = traffic(encoder)
        for detector, new in DETECTORS.items():
            own = detector.startswith("check")
            yield (
                f"| alarms in {DAYS:,} steady days, {name}, {detector} |"
                f" {false_alarms(new, data, 1)} | | | {f'at most {TARGET_ALARMS}' if own else ''} |"
            )
            for shifted in ("partiprompts", "diffusiondb"):
                yield _delay_row(name, data, shifted, detector)
        yield _sequence_row(name, data)
        yield from _sampled_rows(name, encoder)


def _sampled_rows(name: str, encoder: EncoderParams) -> Iterator[str]:
    """The check prompts if stage sample has removed similar prompts from the reference."""
    similarity = SampleParams().max_similarity
    data = traffic(encoder, max_similarity=similarity)
    label = f"{name}, check prompts, reference of {len(data.train):,} prompts after sample"
    yield f"| alarms in {DAYS:,} steady days, {label} | {false_alarms(Prompts, data, 1)} | | | |"
    yield _delay_row(label, data, "diffusiondb", "check prompts")


def _delay_row(name: str, data: Traffic, shifted: str, detector: str) -> str:
    found = delays(DETECTORS[detector], data, shifted, 2)
    median, late = (np.quantile(found, q, method="higher") for q in (0.5, 0.95))
    has_target = shifted == "diffusiondb" and detector == "check prompts"
    target = f"95% within {TARGET_DELAY}" if has_target else ""
    return (
        f"| COCO to {shifted}, {name}, {detector}: requests until the alarm | median {median:.0f},"
        f" 95% {late:.0f}; {(found <= TARGET_DELAY).mean():.1%} within {TARGET_DELAY} | | |"
        f" {target} |"
    )


def _sequence_row(name: str, data: Traffic, days: int = 3) -> str:
    """One service: three days of each kind of traffic, one after the other, without a retrain."""
    detector, rng, texts = Prompts(data, 1), np.random.default_rng(3), []
    for kind in SEQUENCE:
        alarms, auc = [], []
        for hour in range(days * 24):
            raised = detector.hour(data.draw(kind, rng, (1, 42)))[0]
            quiet = alarms and hour < alarms[-1] + SETTINGS.cooldown_hours
            if raised and not quiet:
                alarms.append(hour + 1)
            auc.append(detector.auc[0])
        hours = ", ".join(map(str, alarms)) or "none"
        texts.append(f"{kind}: AUC {np.mean(auc[24:]):.2f}, alarms after hours {hours}")
    return f"| {days} days each, {name}, check prompts | {'; '.join(texts)} | | | |"

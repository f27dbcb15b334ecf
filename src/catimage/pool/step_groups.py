"""Groups of candidates that differ only in their number of steps."""

from __future__ import annotations

from collections.abc import Mapping

from catimage.pool.spec import Pool


def step_groups(pool: Pool | None, generators: Mapping[str, str]) -> dict[str, str]:
    """Return the step group of each candidate: its generator and the settings that it overrides.

    Args:
        pool: the pool; None if candidates were imported from files.
        generators: the generator of each candidate, from the candidates table.

    Returns:
        The name of the group of each candidate, such as ``sdxl, scheduler=DDIMScheduler``. A
        candidate that is not in the pool belongs to the group of its generator.
    """
    names = {}
    for candidate in pool.candidates if pool else []:
        settings = [f"{key}={value}" for key, value in sorted(candidate.settings.items())]
        names[candidate.candidate] = ", ".join([candidate.generator, *settings])
    return {name: names.get(name, generator) for name, generator in generators.items()}

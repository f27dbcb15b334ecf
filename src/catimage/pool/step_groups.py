"""Groups of candidates that differ only in their number of steps."""

from __future__ import annotations

from collections.abc import Mapping

from catimage.pool.spec import Pool


def step_groups(pool: Pool | None, generators: Mapping[str, str]) -> dict[str, str]:
    """Return the step group of each candidate: its generator and the settings that it overrides.

    Args:
        pool: the pool; None if the candidates were imported.
        generators: the generator of each candidate, from the candidates table. It is the group of
            the candidates that are not in the pool.
    """
    names = {}
    for candidate in pool.candidates if pool else []:
        settings = [f"{key}={value}" for key, value in sorted(candidate.settings.items())]
        names[candidate.candidate] = ", ".join([candidate.generator, *settings])
    return {name: names.get(name, generator) for name, generator in generators.items()}

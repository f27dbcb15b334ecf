from __future__ import annotations

import asyncio
from pathlib import Path

from tests.serving.cores import CANDIDATES, answer, request, running_core
from tests.serving.groups import ScriptedGroup

PLAIN = "plain cedar dune number 3"


def test_the_router_selects_the_candidate_and_the_result_has_its_costs(
    calibrated_folder: Path,
) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group) as core:
            images, result = await answer(core, request(n=3, lam=0.05))
            plain = (await answer(core, request(prompt=PLAIN, lam=0.05)))[1]
        assert [image.index for image in images] == [0, 1, 2]
        assert group.tasks[0].seeds == (7, 8, 9)
        assert result.candidate == "mini-4" and plain.candidate == "mini-1"
        assert (result.cost, result.saved, result.reference) == (12.0, 0.0, "mini-4")
        assert (plain.cost, plain.saved) == (1.0, 3.0)

    asyncio.run(run())

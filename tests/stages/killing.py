"""Runs stage generate in children that can be killed: imports once, then forks a child for every
line on standard input.

A line is the folder of a workspace. Prints the child's process id when it starts and its exit code
when it has ended.
"""

import multiprocessing
import sys
from pathlib import Path


def main() -> None:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    from catimage.params import load_params
    from catimage.stages import generate
    from catimage.workspace import Workspace

    print(
        StableDiffusionPipeline.__name__, CLIPTextModel.__name__, flush=True
    )  # imported here, so that children need not
    for line in sys.stdin:
        workspace = Workspace(Path(line.rstrip()))
        child = multiprocessing.get_context("fork").Process(
            target=generate.run, args=(workspace, load_params(workspace.params))
        )
        child.start()
        print(child.pid, flush=True)
        child.join()
        print(child.exitcode, flush=True)


if __name__ == "__main__":
    main()

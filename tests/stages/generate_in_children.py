"""Run stage generate in child processes that a test can kill.

The script imports the libraries once, and then forks a child process for every line on standard
input, which is the folder of a workspace. It prints the process id of the child when the child
starts, and the exit code of the child when the child ends.
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

    # The children inherit these imports.
    print(StableDiffusionPipeline.__name__, CLIPTextModel.__name__, flush=True)
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

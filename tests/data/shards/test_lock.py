import subprocess
import sys
from pathlib import Path

import pytest

from catimage.data.shards.lock import writing
from catimage.errors import InputError

HOLD = """
import sys
from pathlib import Path
from catimage.data.shards.lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_told_so_and_the_lock_of_a_killed_one_is_free(tmp_path: Path):
    output = tmp_path / "data" / "images"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, output],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(
                InputError,
                match=(
                    r"images is being written by another process, which holds .*\.images\.lock:"
                    r" wait"
                ),
            ),
            writing(output),
        ):
            pass
        holder.kill()
    with writing(output):
        assert (output.parent / ".images.lock").exists()
        assert not output.exists()


def test_it_is_let_go_of_after_an_error_too(tmp_path: Path):
    with pytest.raises(ValueError, match="inside"), writing(tmp_path / "x"):
        raise ValueError("inside")
    with writing(tmp_path / "x"), pytest.raises(InputError), writing(tmp_path / "x"):
        pass

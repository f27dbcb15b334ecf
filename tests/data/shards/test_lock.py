import subprocess
import sys
from pathlib import Path

import pytest

from catimage.data.shards.lock import write_lock
from catimage.errors import InputError

HOLDER_SCRIPT = """
import sys
from pathlib import Path
from catimage.data.shards.lock import write_lock
with write_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_and_killing_the_holder_releases_the_lock(tmp_path: Path):
    output = tmp_path / "data" / "images"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER_SCRIPT, output],
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
                    r"images: another process is writing it and holds the lock"
                    r" .*\.images\.lock\. Wait"
                ),
            ),
            write_lock(output),
        ):
            pass
        holder.kill()
    with write_lock(output):
        assert (output.parent / ".images.lock").exists()
        assert not output.exists()


def test_an_exception_releases_the_lock(tmp_path: Path):
    with pytest.raises(ValueError, match="inside"), write_lock(tmp_path / "x"):
        raise ValueError("inside")
    with write_lock(tmp_path / "x"), pytest.raises(InputError), write_lock(tmp_path / "x"):
        pass

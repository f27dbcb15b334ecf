"""Pages of libraries that a waiting process does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from catimage.serving.bento.mapped_pages import unchanged_mappings

SMAPS = """\
1000-3000 r-xp 00000000 08:01 1  /usr/lib/code.so
Anonymous:             0 kB
Swap:                  0 kB
3000-4000 r--p 00000000 08:01 1  /usr/lib/relocated.so
Anonymous:             4 kB
5000-6000 r--p 00000000 08:01 1  /usr/lib/swapped.so
Anonymous:             0 kB
Swap:                  4 kB
6000-7000 r--p 00000000 08:01 1  /usr/lib/read only (1).so
Anonymous:             0 kB
7000-8000 rw-p 00000000 08:01 1  /usr/lib/data.so
Anonymous:             0 kB
8000-9000 r--s 00000000 08:01 1  /usr/lib/shared
Anonymous:             0 kB
9000-a000 r--p 00000000 00:00 0
Anonymous:             0 kB
a000-b000 r-xp 00000000 00:00 0  [vdso]
Anonymous:             0 kB
b000-c000 r--p 00000000 08:01 1  /usr/lib/locked.so
Locked:                4 kB
c000-d000 r--p 00000000 08:01 1  /usr/lib/last.so
Anonymous:             0 kB
"""
RELEASE = """
import numpy, sklearn.linear_model
from catimage.serving.bento.mapped_pages import release_unchanged_pages

def resident():
    text = open("/proc/self/smaps_rollup").read()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Rss:"))

before = resident()
released, after = release_unchanged_pages(), resident()
numpy.testing.assert_allclose(numpy.linalg.inv(numpy.eye(50) * 2), numpy.eye(50) / 2)
import sqlite3, xml.dom.minidom
print(released, before, after)
"""


def test_only_mappings_that_equal_their_file_and_are_never_written_are_released() -> None:
    found = list(unchanged_mappings(SMAPS))
    assert found == [(0x1000, 0x3000), (0x6000, 0x7000), (0xC000, 0xD000)]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_a_process_works_with_less_memory_afterwards() -> None:
    run = subprocess.run([sys.executable, "-c", RELEASE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    released, before, after = map(int, run.stdout.split())
    assert released > 10_000_000 and after < 0.9 * before

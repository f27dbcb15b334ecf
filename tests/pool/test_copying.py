"""Copies of pools."""

from pathlib import Path

from catimage.common.yaml_files import read_yaml
from catimage.pool.copying import copy_pool
from catimage.pool.loading import load_pool

POOL = """\
# Names that YAML 1.1 reads as truth values and YAML 1.2 as strings, and the reverse for numbers.
name: mine
generators:
  no:
    pipeline: StableDiffusionPipeline
    weights: sd
    scheduler: EulerDiscreteScheduler
    size: 64
    guidance: 5e-01
candidates:
- {candidate: off, generator: no, steps: 1}
- {candidate: "1e3", generator: no, steps: 2}
"""


def test_a_copy_has_the_same_values_in_yaml_1_2(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "model_index.json").write_text("{}")
    (tmp_path / "mine.yaml").write_text(POOL)
    copy_pool(load_pool(str(tmp_path / "mine.yaml")), tmp_path / "copy")
    expected = read_yaml(tmp_path / "mine.yaml")
    expected["generators"]["no"]["weights"] = "mine/no/weights"
    assert read_yaml(tmp_path / "copy" / "mine.yaml") == expected
    copy = load_pool(str(tmp_path / "copy" / "mine.yaml"))
    assert [candidate.candidate for candidate in copy.candidates] == ["off", "1e3"]

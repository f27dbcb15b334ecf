"""Changes of values in params.yaml, which keep its comments."""

import re
from pathlib import Path

import pytest
import yaml

from catimage.errors import InputError
from catimage.params import apply_setting, load_params, read_tree, save_params

TEXT = """\
# Parameters of the test.

pool: tiny # a pool
sample:
  # Sources of prompts.
  sources: # a list
  - kind: scenes
    count: 500 # prompts
  max_similarity: 0.9 # cosine

label:
  metrics:
  - clip_score
  - sharpness
  # Composites come last.
  composites: {} # by name

calibrate:
  confidence: # a probability
  estimator: 'auto'
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    return path


def changed_lines(path):
    """Return the lines of the file that TEXT does not have."""
    lines = set(TEXT.splitlines())
    return [line for line in path.read_text().splitlines() if line not in lines]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("pool=sdxl", "pool: sdxl # a pool"),
        ("calibrate.confidence=0.95", "  confidence: 0.95 # a probability"),
        ("sample.max_similarity=0.75", "  max_similarity: 0.75 # cosine"),
        ("label.metrics=[clip_score]", "  metrics: [clip_score]"),
        ("label.composites={a: {terms: {l_snr: {}}}}", "  composites: {a: {terms: {l_snr: {}}}}"),
        ("sample.sources=[{kind: scenes, seed: 2}]", "  sources: [{kind: scenes, seed: 2}]"),
        ("calibrate.estimator=knn", "  estimator: 'knn'"),
        ("budget=60%", "budget: 60%"),
        ("evaluate.trials=0", "evaluate:"),
    ],
)
def test_a_setting_changes_one_value_and_keeps_all_comments(path, setting, line):
    params = load_params(path, [setting])
    text = path.read_text()
    assert [changed for changed in changed_lines(path) if changed.startswith(line)]
    replaced = {"# prompts"} if setting.startswith("sample.sources") else set()
    assert set(re.findall(r"# .*", TEXT)) - set(re.findall(r"# .*", text)) == replaced
    assert load_params(path) == params


def test_reading_and_saving_does_not_change_the_text(path):
    save_params(read_tree(path), path)
    assert path.read_text() == TEXT


def test_repeated_changes_of_a_value_keep_the_comments(path):
    for value in ("[a, b]", "[]", "[clip_score, lpips]", "[sharpness]"):
        tree = read_tree(path)
        apply_setting(tree, f"label.metrics={value}")
        save_params(tree, path)
    assert "  metrics: [sharpness]\n  # Composites come last.\n" in path.read_text()


def test_the_params_yaml_of_the_repository_keeps_its_comments(tmp_path):
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text)
    settings = ["generate.seeds=[0, 1]", "label.metrics=[clip_score]", "train.estimators=[ridge]"]
    load_params(path, [*settings, "evaluate.set_metrics=[]", "budget=60%"])
    written = path.read_text()
    assert [comment for comment in re.findall(r"# .*", text) if comment not in written] == []
    expected = yaml.safe_load(text)
    expected["generate"]["seeds"], expected["label"]["metrics"] = [0, 1], ["clip_score"]
    expected["train"]["estimators"], expected["evaluate"]["set_metrics"] = ["ridge"], []
    assert yaml.safe_load(written) == expected | {"budget": "60%"}


@pytest.mark.parametrize("setting", ["budget", "=1", "pool.x=1", "pool=[", "pool={a: 1"])
def test_an_invalid_setting_is_refused(path, setting):
    with pytest.raises(InputError, match="--set"):
        apply_setting(read_tree(path), setting)


def test_a_file_that_is_not_text_is_refused(path):
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="the file is not UTF-8 text"):
        read_tree(path)


def test_an_empty_file_is_an_empty_tree(path):
    path.write_text("")
    assert read_tree(path) == {}


def test_a_folder_with_the_name_of_the_file_is_refused(tmp_path):
    (tmp_path / "params.yaml").mkdir()
    message = r"params\.yaml: is a folder, not a file\. Rename or remove it"
    with pytest.raises(InputError, match=message):
        load_params(tmp_path / "params.yaml")

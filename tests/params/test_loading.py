"""Default values, validation and error messages of params.yaml."""

import json
import re
from pathlib import Path

import pytest
import yaml

from catimage.errors import InputError
from catimage.params import FileSource, Params, load_params
from catimage.params.loading import RENAMED_KEYS, parse_params


def write_params(tmp_path, text):
    """Write ``params.yaml``, and return its path."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_omitted_keys_have_their_defaults(tmp_path):
    params = load_params(
        write_params(tmp_path, "budget: 12.5\nsample: {sources: [{kind: file, path: a.csv}]}\n")
    )
    assert params.budget == "12.5" and params.sample.sources == (FileSource(path="a.csv"),)
    assert params.metric == Params().metric and load_params(tmp_path / "none.yaml") == Params()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bugdet: 40%", r"unknown key 'bugdet'\. Did you mean 'budget'\?"),
        ("train: {estimaters: [knn]}", r"unknown key 'train.estimaters'\. Did you mean 'est"),
        ("xyzzy: 1", r"unknown key 'xyzzy'\. Use one of pool, metric, .*, validate, .*, import\."),
        ("generate: {batch_size: zero}", "generate.batch_size"),
        ("generate: {batch_size: 0}", "generate.batch_size"),
        ("budget: -3", "'budget': must be a positive number"),
        ("budget: lots", "'budget': must be"),
        ("[1, 2]", "the content is not a mapping"),
        ("generate: {seeds: [0", "line 1: a bracket is not closed"),
        ("metric: x\nbudget: 1\nbudget: 2", "line 3: the key 'budget' occurs twice. Remove one."),
        ("sample:\n\tseed: 1", "line 2: a tab is used to indent. Use spaces."),
        ("metric: 'x", "line 1: a quotation mark is not closed"),
        ("metric: a: b", "line 1: a colon is missing or misplaced"),
        ("<<<<<<< HEAD\nbudget: 1\n", "line 1: a merge conflict of git. Resolve it."),
        ("encoder: 3", "key 'encoder': must be a mapping, lines of the form 'key: value', not 3"),
        ("sample: {sources: {kind: scenes}}", r"'sample.sources': must be a list, such as \[a"),
        ("sample: {sources: [{kind: file}]}", "'sample.sources, entry 1, path': is required"),
        ("sample: {sources: [{kind: web}]}", "kind that is one of 'scenes', 'file'"),
        ("generate: {seeds: [0, 1.5]}", "seeds, entry 2': must be a whole number, not 1.5"),
        ("calibrate: {risk_aversion: }", "'calibrate.risk_aversion': must be a number, not empty"),
        ("cost_unit: bananas", "'cost_unit': must be 'tflops', 'seconds', 'usd', 'wh' or 'unit'"),
        ("train: {estimators: [rigde]}", r"unknown kind 'rigde' .did you mean 'ridge'"),
        ("sample: {sources: []}", "sample.sources"),
    ],
)
def test_invalid_parameters_are_refused_with_the_file_and_the_key(tmp_path, text, message):
    path = write_params(tmp_path, text)
    with pytest.raises(InputError, match=message) as error:
        load_params(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_a_renamed_key_is_refused_with_its_new_name(tmp_path, old, new):
    section, key = old.split(".")
    path = write_params(tmp_path, f"{section}: {{{key}: 8}}")
    with pytest.raises(InputError) as error:
        load_params(path)
    assert str(error.value) == f"{path}: unknown key {old!r}. It is now called {new!r}."
    with pytest.raises(InputError, match=f"It is now called '{new}'"):
        load_params(tmp_path / "none.yaml", [f"{old}=8"])
    assert load_params(tmp_path / "none.yaml", [f"{new}=8"])


def test_settings_are_written_and_invalid_settings_do_not_change_the_file(tmp_path):
    path = write_params(tmp_path, "metric: sharpness\n")
    assert load_params(path, ["budget=60%", "calibrate.estimator=knn"]).calibrate.estimator == "knn"
    assert yaml.safe_load(path.read_text()) == {
        "metric": "sharpness",
        "budget": "60%",
        "calibrate": {"estimator": "knn"},
    }
    before = path.read_text()
    for setting in ("budget", "=3", "metric.x=1", "train.sed=1"):
        with pytest.raises(InputError):
            load_params(path, [setting])
    assert path.read_text() == before


def test_settings_of_an_estimator_have_built_in_types(tmp_path):
    path = write_params(
        tmp_path, 'train: {estimators: [{name: ridge, settings: {alpha: 1.50, x: "a", y: [1, 2]}}]}'
    )
    settings = load_params(path).train.estimators[0].settings
    assert settings == {"alpha": 1.5, "x": "a", "y": [1, 2]}
    assert [type(value) for value in (settings, *settings.values())] == [dict, float, str, list]
    assert type(settings["y"][0]) is int


def test_a_percentage_of_the_budget_refers_to_the_highest_cost():
    assert (
        Params(budget="40%").budget_as_cost(20) == 8
        and Params(budget="12.5").budget_as_cost(20) == 12.5
    )


def parameters_of(tree, prefix=()):
    """Yield the location and the value of every parameter of a tree."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from parameters_of(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def comments_of(text, key):
    """Return the comments before, beside and after a key of params.yaml, as one line."""
    lines = text.splitlines()
    start = end = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{key}:"))
    while lines[start - 1].strip().startswith("#"):
        start -= 1
    while end + 1 < len(lines) and re.match(r" +(#|-|count:)", lines[end + 1]):
        end += 1
    return " ".join(line.partition("#")[2].strip() for line in lines[start : end + 1])


def test_params_yaml_has_every_parameter_with_its_default_or_a_comment_with_the_default():
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    written = dict(parameters_of(yaml.safe_load(text)))
    defaults = dict(
        parameters_of(Params().model_dump(mode="json", by_alias=True, exclude={"imported"}))
    )
    assert written.keys() == defaults.keys()
    different = {key for key, value in defaults.items() if written[key] != value}
    named = {key: f"default: {json.dumps(defaults[key])}" for key in different}
    named[("sample", "sources")] = f"default: {Params().sample.sources[0].count}"
    assert {key for key, text_ in named.items() if text_ not in comments_of(text, key[-1])} == set()
    assert len(different) == 4


def test_sections_without_keys_have_their_defaults_and_the_encoder_may_be_a_name(tmp_path):
    sections = [name for name, value in Params().model_dump(by_alias=True).items()]
    for section in ("sample", "train", "evaluate", "validate", "encoder"):
        assert section in sections
        assert load_params(write_params(tmp_path, f"{section}:\n")) == Params()
    assert load_params(write_params(tmp_path, "encoder: ViT-B-32")).encoder.model == "ViT-B-32"


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    text = "train: {estimators: [{name: ridge, settings: {alpha: 1e-3, x: 85e-5, y: no}}]}"
    settings = load_params(write_params(tmp_path, text)).train.estimators[0].settings
    assert settings == {"alpha": 0.001, "x": 0.00085, "y": "no"}
    path = write_params(tmp_path, "metric: clip_score\n")
    changed = load_params(path, ["calibrate.risk_aversion=1e-3"])
    assert changed.calibrate.risk_aversion == 0.001
    assert load_params(path) == changed


PYTHON_WORDS = re.compile(
    r"\b(input should|valid (tuple|list|dictionary|string|integer|number|boolean)|instance of|None"
    r"|dict|tuple|Params|\w+Source|unable to parse|NoneType|str|int|float|bool|is invalid)\b"
)


@pytest.mark.parametrize(
    "key", [key for key, _ in parameters_of(Params().model_dump(by_alias=True))]
)
@pytest.mark.parametrize("value", [3, 1.5, -1, "x y", True, None, [], ["a"], [None], {"a": 1}])
def test_a_wrong_value_of_any_parameter_is_described_without_words_of_python(key, value):
    tree = current = {}
    for name in key[:-1]:
        current = current.setdefault(name, {})
    current[key[-1]] = value
    try:
        parse_params(tree, "params.yaml")
    except InputError as error:
        assert str(error).startswith("params.yaml: ") and "\n" not in str(error)
        assert not PYTHON_WORDS.search(str(error)), str(error)

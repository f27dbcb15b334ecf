"""Default values, validation and error messages of params.yaml."""

from pathlib import Path

import pytest
import yaml

from catimage.errors import InputError
from catimage.params import FileSource, Params, load_params
from catimage.params.loading import RENAMED_KEYS


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
        ("a: [", "not readable as YAML"),
        ("budget: 1\nbudget: 2", "not readable as YAML.*duplicate key"),
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


def test_the_params_yaml_of_the_repository_has_every_key():
    tree = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    assert set(tree) | {"import"} == {f.alias or n for n, f in Params.model_fields.items()}
    assert Params.model_validate(tree).pool == "tiny"
    for name, field in Params.model_fields.items():
        section = field.annotation
        if hasattr(section, "model_fields"):
            keys = {f.alias or n for n, f in section.model_fields.items()}
            assert set(tree[field.alias or name]) == keys, name

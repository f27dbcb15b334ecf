import pytest
import yaml

from catimage.errors import InputError
from catimage.params import FileSource, Params, load_params


def written(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_defaults_fill_what_is_left_out(tmp_path):
    params = load_params(
        written(tmp_path, "budget: 12.5\nsample: {sources: [{kind: file, path: a.csv}]}\n")
    )
    assert params.budget == "12.5" and params.sample.sources == (FileSource(path="a.csv"),)
    assert params.metric == Params().metric and load_params(tmp_path / "none.yaml") == Params()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bugdet: 40%", "unknown key 'bugdet' .did you mean 'budget'"),
        ("train: {estimaters: [knn]}", "unknown key 'train.estimaters' .did you mean 'estimators'"),
        ("generate: {batch: zero}", "generate.batch"),
        ("generate: {batch: 0}", "generate.batch"),
        ("budget: -3", "'budget': must be a positive number"),
        ("budget: lots", "'budget': must be"),
        ("[1, 2]", "must be a mapping"),
        ("a: [", "not readable as YAML"),
        ("sample: {sources: []}", "sample.sources"),
    ],
)
def test_bad_parameters_get_one_sentence_that_names_the_file_and_key(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=words) as error:
        load_params(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_settings_are_written_and_bad_ones_leave_the_file_alone(tmp_path):
    path = written(tmp_path, "metric: sharpness\n")
    assert load_params(path, ["budget=60%", "calibrate.estimator=knn"]).calibrate.estimator == "knn"
    assert yaml.safe_load(path.read_text()) == {
        "metric": "sharpness",
        "budget": "60%",
        "calibrate": {"estimator": "knn"},
    }
    before = path.read_text()
    for bad in ("budget", "=3", "metric.x=1", "train.sed=1"):
        with pytest.raises(InputError):
            load_params(path, [bad])
    assert path.read_text() == before


def test_the_budget_in_the_cost_unit():
    assert Params(budget="40%").budget_in(20) == 8 and Params(budget="12.5").budget_in(20) == 12.5


def test_the_repositorys_params_yaml_holds_the_defaults():
    from pathlib import Path

    tree = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
    assert set(tree) | {"import"} == {f.alias or n for n, f in Params.model_fields.items()}
    assert Params.model_validate(tree).pool == "tiny"

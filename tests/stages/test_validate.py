import json
import shutil
from pathlib import Path

import pytest

from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.errors import InputError
from catimage.params import parse_params
from catimage.stages import validate
from catimage.workspace import Workspace
from tests.provenance import record_inputs_of_scores
from tests.valid_tables import id_of_prompt, valid_tables

EXPECTATIONS = Path(__file__).parents[2] / "expectations"
PARAMS = parse_params({}, "here")


def write_workspace(root, change=None):
    """Write valid tables and embeddings of generated data, modified by the function ``change``."""
    workspace, tables = Workspace(root), valid_tables()
    if change:
        change(tables)
    write_table(tables["prompts"], workspace.prompts, PROMPTS)
    write_table(tables["candidates"], workspace.candidates, CANDIDATES)
    write_table(tables["scores"], workspace.scores, SCORES)
    record_inputs_of_scores(workspace)
    tables["embeddings"].save(workspace.embeddings(PARAMS.encoder.name))
    return workspace


def remove_score(tables):
    tables["scores"].loc[5, "value"] = float("nan")


def test_valid_data_pass_and_a_second_run_writes_the_same_report(tmp_path, capsys):
    workspace = write_workspace(tmp_path)
    validate.run(workspace, PARAMS)
    path = workspace.reports / "validation.json"
    content = path.read_bytes()
    report = json.loads(content)
    assert report["success"] is True
    assert report["kind"] == "generated"
    assert report["suites"]["generated_scores"] == {"evaluated": 23, "successful": 23}
    assert report["tables"] == {"prompts": 40, "candidates": 4, "scores": 320}
    assert report["metrics"] == ["clip_score", "sharpness"]
    docs = tmp_path / ".catimage" / "data_docs" / "index.html"
    assert docs.exists()
    assert str(docs) in capsys.readouterr().out
    validate.run(workspace, PARAMS)
    assert path.read_bytes() == content


def test_invalid_data_stop_the_run_and_the_previous_report_is_kept(tmp_path):
    workspace = write_workspace(tmp_path, remove_score)
    workspace.reports.mkdir()
    path = workspace.reports / "validation.json"
    path.write_text('{"success": true}')
    with pytest.raises(InputError) as error:
        validate.run(workspace, PARAMS)
    message = str(error.value)
    assert message == (
        f"{workspace.scores}: the column value is empty in 1 row, such as"
        f" prompt_id={id_of_prompt(0)}, candidate=mini-2, seed=0, metric=sharpness, value=nan. Run"
        f" 'catimage label' again. {tmp_path}/.catimage/data_docs/index.html lists all rows."
    )
    assert path.read_text() == '{"success": true}'
    page = next(
        (tmp_path / ".catimage" / "data_docs" / "validations" / "generated_scores").rglob("*.html")
    )
    assert id_of_prompt(0) in page.read_text()


def test_suites_of_the_workspace_replace_those_of_the_package(tmp_path):
    workspace = write_workspace(tmp_path)
    shutil.copytree(
        EXPECTATIONS, tmp_path / "expectations", ignore=shutil.ignore_patterns("uncommitted")
    )
    path = tmp_path / "expectations" / "suites" / "generated_splits.json"
    suite = json.loads(path.read_text())
    expectation = {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "prompts", "min_value": 10},
        "description": "at least ten prompts per split",
    }
    path.write_text(json.dumps({**suite, "expectations": [*suite["expectations"], expectation]}))
    before = sorted(p for p in (tmp_path / "expectations").rglob("*"))
    with pytest.raises(
        InputError,
        match=(
            r"prompts.parquet: at least ten prompts per split: prompts in 3 rows, such as"
            r" split=gate; split=val; split=test\. Correct the data, or the suite in"
            r" expectations/suites\."
        ),
    ):
        validate.run(workspace, PARAMS)
    docs = tmp_path / "expectations" / "uncommitted" / "data_docs"
    assert (docs / "index.html").exists()
    assert [
        p for p in sorted((tmp_path / "expectations").rglob("*")) if "uncommitted" not in p.parts
    ] == before
    assert not (workspace.reports / "validation.json").exists()


def test_imported_data_need_no_embeddings(tmp_path):
    workspace = write_workspace(tmp_path)
    shutil.rmtree(tmp_path / "data" / "embeddings")
    with pytest.raises(InputError, match="Run 'catimage sample' first"):
        validate.run(workspace, PARAMS)
    validate.run(workspace, parse_params({"import": {}}, "here"))
    assert json.loads((workspace.reports / "validation.json").read_text())["kind"] == "imported"


def test_the_message_about_a_missing_table_names_the_command_that_writes_it(tmp_path):
    workspace = write_workspace(tmp_path)
    workspace.scores.unlink()
    with pytest.raises(
        InputError, match=r"scores\.parquet: not found\. Run 'catimage label' first\."
    ):
        validate.run(workspace, PARAMS)


class Distance:
    """The declaration of a metric with a reference image and a wrong direction."""

    name, range, higher_is_better, needs_reference = "distance", (0.0, 1.0), True, True


def test_a_metric_with_a_wrong_direction_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("catimage.metrics.registry.METRICS", {"distance": f"{__name__}:Distance"})

    def set_distances(tables):
        scores = tables["scores"].query("metric == 'clip_score'").assign(metric="distance")
        tables["scores"] = scores.assign(value=scores["value"] * (scores["candidate"] == "mini-1"))

    workspace = write_workspace(tmp_path, set_distances)
    imported = {"kind": "images", "metric_reference": {"mini-1": "mini-2", "mini-2": "mini-2"}}
    params = parse_params(
        {"import": imported, "metric": "distance", "label": {"metrics": ["distance"]}}, "here"
    )
    with pytest.raises(
        InputError,
        match=(
            r"scores.parquet: images have better scores of distance than the reference image"
            r" itself\. Correct higher_is_better in the declaration of the metric\."
        ),
    ):
        validate.run(workspace, params)
    monkeypatch.setattr(Distance, "higher_is_better", False)
    validate.run(workspace, params)
    assert json.loads((workspace.reports / "validation.json").read_text())["kind"] == "images"

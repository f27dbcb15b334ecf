"""Stages that are run by hand never combine outputs of different runs.

The first command to run is named.
"""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from catimage.commands import add_candidate, import_scores
from catimage.commands.candidate_request import CandidateRequest
from catimage.data import provenance as p
from catimage.data.provenance import Provenance
from catimage.data.schema import PROMPTS, SCORES, read_table, write_table
from catimage.encoders.embeddings import Embeddings
from catimage.errors import InputError
from catimage.params import load_params
from catimage.stages import calibrate, evaluate, package, train, validate
from catimage.tracking.lineage import lineage_tags
from catimage.tracking.registry import register
from catimage.workspace import Workspace
from tests.provenance import record_inputs
from tests.trained_workspace import train_workspace
from tests.valid_tables import valid_tables


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    workspace, params = train_workspace(
        tmp_path_factory.mktemp("evaluated"), evaluate={"bootstrap": 100}
    )
    save_embeddings(workspace, params)
    record_inputs(workspace)
    evaluate.run(workspace, params)
    return workspace


def save_embeddings(workspace, params, change=0.0):
    embeddings = valid_tables()["embeddings"]
    embeddings.pooled[0, 0] += change
    embeddings.save(workspace.embeddings(params.encoder.name))


@pytest.fixture
def workspace(evaluated, tmp_path):
    """A copy of an evaluated workspace."""
    return Workspace(shutil.copytree(evaluated.root, tmp_path / "w"))


def run(stage, workspace):
    stage.run(workspace, load_params(workspace.params))


def change_prompts(workspace):
    table = read_table(workspace.prompts, PROMPTS, "sample")
    write_table(table.assign(source="other"), workspace.prompts, PROMPTS)


def change_scores(workspace):
    """Label again: the scores belong to the prompts, but are other scores."""
    table = read_table(workspace.scores, SCORES, "label")
    inputs = Provenance(workspace).inputs(p.SCORES_FILE)
    write_table(table.assign(version="2"), workspace.scores, SCORES, inputs)


def change_embeddings(workspace):
    save_embeddings(workspace, load_params(workspace.params), change=0.1)


def retrain(workspace):
    """Train again with other settings on the same tables."""
    train.run(workspace, load_params(workspace.params, ["train.folds=3"]))


def recalibrate(workspace):
    calibrate.run(workspace, load_params(workspace.params, ["budget=70%"]))


def change_images(workspace):
    """Generate again: the scores belong to earlier images."""
    workspace.images.mkdir(parents=True)
    (workspace.images / "manifest.json").write_text("{}")


STALE = [
    (change_prompts, validate, "scores.parquet", "data/prompts.parquet", "import-scores"),
    (change_scores, train, "validation.json", "data/scores.parquet", "validate"),
    (change_scores, calibrate, "validation.json", "data/scores.parquet", "validate"),
    (change_scores, evaluate, "validation.json", "data/scores.parquet", "validate"),
    (change_embeddings, train, "validation.json", "data/embeddings", "validate"),
    (change_embeddings, evaluate, "validation.json", "data/embeddings", "validate"),
    (change_images, train, "scores.parquet", "data/images/manifest.json", "label"),
    (change_images, evaluate, "scores.parquet", "data/images/manifest.json", "label"),
    (retrain, evaluate, "models/router", "models/estimators", "calibrate"),
    (retrain, package, "models/router", "models/estimators", "calibrate"),
]


@pytest.mark.parametrize(("change", "stage", "output", "source", "command"), STALE)
def test_a_stage_refuses_an_output_of_other_inputs(
    workspace, change, stage, output, source, command
):
    change(workspace)
    message = rf"{output}: was computed from another version of {source}\. Run 'catimage {command}'"
    with pytest.raises(InputError, match=message):
        run(stage, workspace)


def test_registration_refuses_metrics_of_another_router(workspace):
    recalibrate(workspace)
    message = (
        r"metrics\.json: was computed from another version of models/router\. Run 'catimage ev"
    )
    with pytest.raises(InputError, match=message):
        register(workspace, load_params(workspace.params))


def test_the_named_commands_lead_to_a_consistent_workspace(workspace):
    """After other scores, each refusal names the next command, until evaluate runs."""
    change_scores(workspace)
    record = Provenance(workspace).inputs(p.VALIDATION)
    commands = []
    stages = {"train": train, "calibrate": calibrate}
    for _ in range(4):
        try:
            run(evaluate, workspace)
            break
        except InputError as error:
            command = str(error).split("'catimage ")[1].split("'")[0]
        commands.append(command)
        if command == "validate":  # the stage itself takes seconds
            report = {"success": True, "inputs": record}
            (workspace.reports / "validation.json").write_text(json.dumps(report))
        else:
            run(stages[command], workspace)
    assert commands == ["validate", "train", "calibrate"]
    metrics = json.loads((workspace.reports / "metrics.json").read_text())
    assert metrics["inputs"] == Provenance(workspace).inputs(p.METRICS)


def test_equal_outputs_have_equal_records_and_nothing_is_refused(workspace):
    before = (workspace.estimators / "inputs.json").read_bytes()
    run(train, workspace)
    assert (workspace.estimators / "inputs.json").read_bytes() == before
    run(calibrate, workspace)
    run(evaluate, workspace)


def test_outputs_without_a_record_are_refused(workspace):
    table = pq.read_table(workspace.scores)
    pq.write_table(table.replace_schema_metadata(None), workspace.scores)
    with pytest.raises(InputError, match=r"scores\.parquet: .* without a record of its inputs"):
        run(validate, workspace)
    (workspace.estimators / "inputs.json").unlink()
    with pytest.raises(InputError, match="without a record of its inputs"):
        Provenance(workspace).check(p.ESTIMATORS)


def test_a_deleted_output_is_named_with_its_command(workspace):
    shutil.rmtree(workspace.estimators)
    with pytest.raises(InputError, match=r"estimators: not found\. Run 'catimage train' first"):
        run(calibrate, workspace)
    (workspace.reports / "validation.json").unlink()
    with pytest.raises(InputError, match=r"validation\.json: not found\. Run 'catimage validate'"):
        run(calibrate, workspace)


def test_digests_are_computed_once_per_stage(workspace, monkeypatch):
    digests = []
    digest_of = p._digest_of
    monkeypatch.setattr(
        p, "_digest_of", lambda path, name: digests.append(name) or digest_of(path, name)
    )
    run(evaluate, workspace)
    assert sorted(digests) == sorted(set(digests))
    assert {p.PROMPTS_FILE, p.SCORES_FILE, p.ESTIMATORS, p.ROUTER} <= set(digests)


def test_the_arrays_of_embeddings_are_part_of_their_digest_without_being_read(workspace):
    before = Provenance(workspace).inputs(p.VALIDATION)[p.EMBEDDINGS]
    change_embeddings(workspace)
    assert Provenance(workspace).inputs(p.VALIDATION)[p.EMBEDDINGS] != before
    folder = workspace.embeddings(load_params(workspace.params).encoder.name)
    assert Embeddings.load(folder).pooled[0, 0] == pytest.approx(1.1)


def test_a_bento_of_another_router_is_not_recorded_in_the_lineage(workspace):
    workspace.dist.mkdir()
    document = {"tag": "catimage:1", "router": Provenance(workspace).inputs(p.METRICS)[p.ROUTER]}
    (workspace.dist / "bento.json").write_text(json.dumps(document))
    assert lineage_tags(workspace)["bento"] == "catimage:1"
    recalibrate(workspace)
    assert "bento" not in lineage_tags(workspace)


def test_another_import_and_an_added_candidate_leave_a_consistent_workspace(tmp_path):
    rows = ["prompt,candidate,seed,metric,value"]
    for i in range(200):
        rows += [
            f"prompt number {i},{c},0,quality,{(i * k) % 7 / 7}" for k, c in ((3, "a"), (5, "b"))
        ]
    (tmp_path / "scores.csv").write_text("\n".join(rows))
    workspace = Workspace(tmp_path / "w")
    settings = ["evaluate.bootstrap=100"]
    import_scores.run(workspace, tmp_path / "scores.csv", None, settings)
    for stage in (validate, train, calibrate, evaluate):
        run(stage, workspace)
    params = load_params(workspace.params)
    new = [f"prompt number {i},c,0,quality,{i % 5 / 5}" for i in range(200)]
    (tmp_path / "new.csv").write_text("\n".join([rows[0], *new]))
    add_candidate.run(workspace, params, CandidateRequest("c", 40, tmp_path / "new.csv"))
    run(calibrate, workspace)
    run(evaluate, workspace)
    run(validate, workspace)
    run(evaluate, workspace)
    rows[1] = rows[1].replace("number 0", "number 999")
    rows[2] = rows[2].replace("number 0", "number 999")
    (tmp_path / "scores.csv").write_text("\n".join(rows))
    import_scores.run(workspace, tmp_path / "scores.csv", None, [], True)
    with pytest.raises(InputError, match=r"validation\.json: not found\. Run 'catimage validate'"):
        run(evaluate, workspace)
    run(validate, workspace)
    with pytest.raises(InputError, match=r"estimators: was computed from another .*catimage train"):
        run(evaluate, workspace)

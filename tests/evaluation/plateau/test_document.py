import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from catimage.data.dataset import Candidates
from catimage.data.prompts.identity import prompt_id, splits_of
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.errors import InputError
from catimage.evaluation.evaluate import Evaluation
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.plateau.document import (
    CalibratedWeights,
    PlateauInputs,
    plateau_document,
    rule_document,
)
from catimage.evaluation.plateau.text import plateau_lines
from catimage.evaluation.test_data import LabelledPredictions
from catimage.params import EvaluateParams, PlateauParams, load_params
from catimage.pool.loading import load_pool
from catimage.pool.step_groups import step_groups
from catimage.routing.plateau_weights import PlateauWeights
from catimage.stages import calibrate, evaluate, train
from catimage.workspace import Workspace
from tests.evaluation.plateau.step_data import step_data
from tests.provenance import mark_validated, record_inputs
from tests.trained_workspace import prompts_of

COST = {"mini-1": 1.0, "mini-2": 2.0, "mini-4": 4.0, "ddim-2": 2.5}
QUALITY = {"plain": (0.60, 0.61, 0.61, 0.6), "crowded": (0.30, 0.45, 0.70, 0.4)}
LSTM_SETTINGS = {"hidden_size": 6, "head_size": 8, "learning_rate": 0.02, "max_iter": 4}
LSTM = {"name": "lstm", "settings": LSTM_SETTINGS}


@pytest.mark.parametrize("n", [1, 200])
def test_the_document_is_valid_json_and_has_sentences_about_each_metric(n):
    data = step_data(n)
    weights = PlateauWeights(np.array([0.3, 0.3]), 5.0, 0.1)
    calibrated, bootstrap = CalibratedWeights(weights, "given", 20), PairedBootstrap(n, 200, 0)
    document = rule_document(data, PlateauParams(), calibrated, bootstrap)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document["baselines"]) == {"ddim-4"}
    efficiency = document["baselines"]["ddim-4"]["metrics"]["alike"]["efficiency"]
    assert efficiency == pytest.approx((data.quality[:, 1, 2] - 0.1).mean() / 5)
    lines = plateau_lines(document)
    assert "weights as given: sharp 0.3, alike 0.3" in lines[1]
    assert sum("over UNIFORM at the same compute" in line for line in lines) == 2
    assert plateau_lines(None) == []


def test_metrics_and_estimators_that_are_not_trained_are_refused():
    labels = np.zeros((3, 4))
    data = LabelledPredictions(
        "clip_similarity", labels, labels, labels, {"lstm": (labels, labels)}
    )
    candidates = Candidates(list(COST), np.array(list(COST.values())), "tflops")

    def document_of(**settings):
        plateau = PlateauParams(**({"metrics": {"clip_similarity": {}}} | settings))
        settings = EvaluateParams(plateau=plateau)
        return plateau_document(Evaluation(None, None, None, [data], settings), inputs)

    inputs = PlateauInputs(dict.fromkeys(candidates.names, "mini"))
    message = r"plateau.estimator: 'lstn' is not trained on clip_similarity.*[Dd]id you mean 'lstm'"
    with pytest.raises(InputError, match=message):
        document_of(estimator="lstn")
    message = r"evaluate.plateau.metrics: 'ssim' is not trained.*Add it to train.metrics"
    with pytest.raises(InputError, match=message):
        document_of(metrics={"ssim": {}})
    assert document_of(metrics={}) is None


def write_pool(folder):
    """Write a pool with three numbers of steps, and a candidate with another scheduler."""
    generator = {
        "kind": "diffusers",
        "pipeline": "StableDiffusionPipeline",
        "weights": "sd",
        "scheduler": "EulerDiscreteScheduler",
        "size": 64,
    }
    candidates = [{"candidate": c, "generator": "mini", "steps": int(c[-1])} for c in COST]
    candidates[-1]["scheduler"] = "DDIMScheduler"
    pool = {
        "name": "mini",
        "generators": {"mini": generator},
        "candidates": candidates,
        "reference_condition": "mini-4",
    }
    folder.mkdir(parents=True)
    (folder / "mini.yaml").write_text(yaml.safe_dump(pool))


def write_tables(workspace, n=220):
    """Write prompts, candidates and scores of two metrics.

    ``l_snr`` (lower is better) is 1 minus ``clip_similarity``.
    """
    rng, texts = np.random.default_rng(0), prompts_of(n)
    ids = [prompt_id(t) for t in texts]
    splits = splits_of(texts, 0.1)
    columns = {"prompt_id": ids, "prompt": texts, "source": "made up", "split": splits}
    write_table(pd.DataFrame(columns), workspace.prompts, PROMPTS)
    rows = [(c, "mini", int(c[-1]), cost, "tflops") for c, cost in COST.items()]
    write_table(pd.DataFrame(rows, columns=CANDIDATES.names), workspace.candidates, CANDIDATES)
    scores = []
    for i, text in zip(ids, texts, strict=True):
        for c, q in zip(COST, QUALITY[text.split()[0]], strict=True):
            value = q + 0.01 * rng.standard_normal()
            scores += [(i, c, 0, "clip_similarity", "1", value), (i, c, 0, "l_snr", "1", 1 - value)]
    write_table(pd.DataFrame(scores, columns=SCORES.names), workspace.scores, SCORES)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace after calibration, with ridge and a small LSTM."""
    workspace = Workspace(tmp_path_factory.mktemp("plateau"))
    write_pool(workspace.pools)
    write_tables(workspace)
    mark_validated(workspace)
    plateau = {"metrics": {"clip_similarity": {}, "l_snr": {}}, "estimator": "ridge"}
    settings = {
        "pool": "mini",
        "metric": "clip_similarity",
        "budget": "60%",
        "train": {"estimators": ["ridge", LSTM], "metrics": ["l_snr"], "folds": 2},
        "calibrate": {"estimator": "ridge"},
        "evaluate": {"trials": 0, "bootstrap": 200, "plateau": plateau},
    }
    workspace.params.write_text(yaml.safe_dump(settings))
    params = load_params(workspace.params)
    train.run(workspace, params)
    calibrate.run(workspace, params)
    return workspace


def test_candidates_with_other_settings_are_another_step_group(workspace):
    pool = load_pool("mini", workspace.pools)
    groups = step_groups(pool, dict.fromkeys([*COST, "mine"], "mini"))
    assert groups == {
        "mini-1": "mini",
        "mini-2": "mini",
        "mini-4": "mini",
        "ddim-2": "mini, scheduler=DDIMScheduler",
        "mine": "mini",
    }


def plateau_document_of(workspace, *settings):
    """Run the stage ``evaluate`` and return the key ``plateau`` of ``metrics.json``."""
    evaluate.run(workspace, load_params(workspace.params, list(settings)))
    return json.loads((workspace.reports / "metrics.json").read_text())["plateau"]


def test_the_rule_is_evaluated_on_the_steps_of_the_reference_condition(workspace, capsys):
    """The prompts need different numbers of steps, so the plateau rule is better than UNIFORM."""
    document = plateau_document_of(workspace)
    assert document["steps"] == [1, 2, 4]
    assert document["costs"] == [1.0, 2.0, 4.0]
    assert list(document["baselines"]) == ["ddim-2"]
    assert document["inverted"] == {"l_snr": 1.0}
    assert set(document["errors"]["l_snr"]) == {"ridge", "lstm", "mean of the training labels"}
    assert document["weights"]["found_by"] == "gain"
    reference = document["conditions"]["reference"]["metrics"]
    quality = [reference[m]["quality"] for m in ("clip_similarity", "l_snr")]
    assert quality[0] == pytest.approx(quality[1])  # 1 - (1 - value)
    assert quality[0] == pytest.approx(0.655, abs=0.03)
    assert "Plateau rule (ridge; weights of greatest gain over UNIFORM" in capsys.readouterr().out
    page = (workspace.reports / "report.html").read_text()
    assert "Steps by the plateau rule" in page
    assert (workspace.reports / "plots" / "plateau_steps.svg").exists()
    assert document["gains"]["clip_similarity"]["uniform"]["verdict"] == "better"
    costs = [document["conditions"][name]["cost"] for name in ("ours", "uniform")]
    assert costs[0] == pytest.approx(costs[1])


def test_weights_are_calibrated_to_a_budget_on_out_of_fold_predictions(workspace):
    document = plateau_document_of(workspace, "evaluate.plateau.budget=50%")
    assert document["weights"]["found_by"] == "budget"
    assert document["weights"]["mean_cost"] <= 2.0
    splits = pd.read_parquet(workspace.prompts)["split"].value_counts()
    assert document["weights"]["calibrated_on"] == splits["train"] + splits["val"]
    with pytest.raises(InputError, match=r"0\.04 is below the cost of the fewest steps, 1"):
        plateau_document_of(workspace, "evaluate.plateau.budget=1%")
    load_params(workspace.params, ["evaluate.plateau.budget="])


def test_out_of_fold_predictions_are_matched_by_prompt(workspace, tmp_path):
    workspace = Workspace(shutil.copytree(workspace.root, tmp_path / "w"))
    before = plateau_document_of(workspace)["weights"]
    path = workspace.estimators / "l_snr" / "ridge" / "out_of_fold.parquet"
    pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(path, index=False)
    record_inputs(workspace)
    assert plateau_document_of(workspace)["weights"] == before
    pd.read_parquet(path).iloc[1:].to_parquet(path, index=False)
    record_inputs(workspace)
    with pytest.raises(
        InputError, match="prompts or candidates differ from those of the label tables"
    ):
        plateau_document_of(workspace)


def test_a_test_split_in_which_no_prompt_has_all_metrics_is_refused(workspace, tmp_path):
    workspace = Workspace(shutil.copytree(workspace.root, tmp_path / "w"))
    prompts, scores = pd.read_parquet(workspace.prompts), pd.read_parquet(workspace.scores)
    test = prompts.loc[prompts["split"] == "test", "prompt_id"]
    removed = [
        scores["prompt_id"].isin(half) & (scores["metric"] == m)
        for half, m in ((test[::2], "l_snr"), (test[1::2], "clip_similarity"))
    ]
    write_table(scores[~(removed[0] | removed[1])], workspace.scores, SCORES)
    record_inputs(workspace)
    with pytest.raises(InputError, match="no test prompt has a label of every plateau metric"):
        plateau_document_of(workspace, "validate.complete_labels=false")


def test_a_budget_with_the_literal_rule_is_refused(workspace, tmp_path):
    workspace = Workspace(shutil.copytree(workspace.root, tmp_path / "w"))
    message = "the rule always chooses the last step, so that no 'budget' can be met"
    with pytest.raises(InputError, match=message):
        plateau_document_of(
            workspace, "evaluate.plateau.literal=true", "evaluate.plateau.budget=50%"
        )

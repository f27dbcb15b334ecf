import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from catimage.data.prompts.identity import prompt_id, split_of
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.errors import InputError
from catimage.evaluation.methods import MetricData, Pool
from catimage.evaluation.plateau_data import budget_of, plateau
from catimage.evaluation.step_candidates import step_candidates
from catimage.evaluation.test_data import Known
from catimage.params import load_params, parse_params
from catimage.pool.loading import load_pool
from catimage.pool.step_groups import step_groups
from catimage.stages import calibrate, evaluate, train
from catimage.workspace import Workspace
from tests.built import prompts_of

COST = {"mini-1": 1.0, "mini-2": 2.0, "mini-4": 4.0, "ddim-2": 2.5}
QUALITY = {"plain": (0.60, 0.61, 0.61, 0.6), "crowded": (0.30, 0.45, 0.70, 0.4)}
LSTM_SETTINGS = {"hidden_size": 6, "head_size": 8, "learning_rate": 0.02, "max_iter": 4}
LSTM = {"name": "lstm", "settings": LSTM_SETTINGS}


def pool_file(folder):
    generator = {
        "kind": "diffusers",
        "pipeline": "StableDiffusionPipeline",
        "weights": "sd",
        "scheduler": "EulerDiscreteScheduler",
        "size": 64,
    }
    candidates = [{"candidate": c, "generator": "mini", "steps": int(c[-1])} for c in COST]
    candidates[-1]["scheduler"] = "DDIMScheduler"
    tree = {
        "name": "mini",
        "generators": {"mini": generator},
        "candidates": candidates,
        "reference_condition": "mini-4",
    }
    folder.mkdir(parents=True)
    (folder / "mini.yaml").write_text(yaml.safe_dump(tree))


def save(workspace, n=220):
    """Tables of ``alike`` and of ``l_snr``, whose values are 1 less it: lower is better."""
    rng, texts = np.random.default_rng(0), prompts_of(n)
    ids = [prompt_id(t) for t in texts]
    frame = pd.DataFrame(
        {
            "prompt_id": ids,
            "prompt": texts,
            "source": "made up",
            "split": [split_of(i) for i in ids],
        }
    )
    write_table(frame, workspace.prompts, PROMPTS)
    rows = [(c, "mini", int(c[-1]), cost, "tflops") for c, cost in COST.items()]
    write_table(pd.DataFrame(rows, columns=CANDIDATES.names), workspace.candidates, CANDIDATES)
    scores = []
    for i, text in zip(ids, texts, strict=True):
        for c, q in zip(COST, QUALITY[text.split()[0]], strict=True):
            value = q + 0.01 * rng.standard_normal()
            scores += [(i, c, 0, "clip_similarity", "1", value), (i, c, 0, "l_snr", "1", 1 - value)]
    write_table(pd.DataFrame(scores, columns=SCORES.names), workspace.scores, SCORES)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Trained and calibrated, by ridge and a small LSTM."""
    workspace = Workspace(tmp_path_factory.mktemp("plateau"))
    pool_file(workspace.pools)
    save(workspace)
    workspace.reports.mkdir()
    (workspace.reports / "validation.json").write_text('{"success": true}')
    tree = {
        "pool": "mini",
        "metric": "clip_similarity",
        "budget": "60%",
        "train": {"estimators": ["ridge", LSTM], "metrics": ["l_snr"], "folds": 2},
        "calibrate": {"estimator": "ridge"},
        "evaluate": {
            "trials": 0,
            "bootstrap": 200,
            "plateau": {"metrics": {"clip_similarity": {}, "l_snr": {}}, "estimator": "ridge"},
        },
    }
    workspace.params.write_text(yaml.safe_dump(tree))
    params = load_params(workspace.params)
    train.run(workspace, params)
    calibrate.run(workspace, params)
    return workspace


def evaluated(workspace, *settings):
    evaluate.run(workspace, load_params(workspace.params, list(settings)))
    return json.loads((workspace.reports / "metrics.json").read_text())["plateau"]


def test_the_plateau_rule_is_judged_on_the_reference_conditions_own_steps(built, capsys):
    """And beats one step for all where prompts differ."""
    found = evaluated(built)
    assert found["steps"] == [1, 2, 4]
    assert found["costs"] == [1.0, 2.0, 4.0]
    assert list(found["baselines"]) == ["ddim-2"]
    assert found["inverted"] == {"l_snr": 1.0}
    assert set(found["errors"]["l_snr"]) == {"ridge", "lstm", "mean of the training labels"}
    assert found["weights"]["found_by"] == "gain"
    quality = [
        found["conditions"]["reference"]["metrics"][m]["quality"]
        for m in ("clip_similarity", "l_snr")
    ]
    assert quality[0] == pytest.approx(quality[1])  # 1 - (1 - value)
    assert quality[0] == pytest.approx(0.655, abs=0.03)
    assert "Plateau rule (ridge; weights of greatest gain over UNIFORM" in capsys.readouterr().out
    page = (built.reports / "report.html").read_text()
    assert "Steps by the plateau rule" in page
    assert (built.reports / "plots" / "plateau_steps.svg").exists()
    assert found["gains"]["clip_similarity"]["uniform"]["verdict"] == "better"
    assert found["conditions"]["ours"]["cost"] == pytest.approx(
        found["conditions"]["uniform"]["cost"]
    )


def test_weights_are_calibrated_to_a_budget_on_prompts_that_were_not_learned_from(built):
    whole = evaluated(built, "evaluate.plateau.budget=50%")
    assert whole["weights"]["found_by"] == "budget"
    assert whole["weights"]["mean_cost"] <= 2.0
    splits = pd.read_parquet(built.prompts)["split"].value_counts()
    assert whole["weights"]["calibrated_on"] == splits["train"] + splits["val"]
    with pytest.raises(InputError, match=r"budget 0\.04 is below the fewest steps, which cost 1"):
        evaluated(built, "evaluate.plateau.budget=1%")
    load_params(built.params, ["evaluate.plateau.budget="])


def test_out_of_fold_predictions_are_read_by_prompt(built, tmp_path):
    workspace = Workspace(shutil.copytree(built.root, tmp_path / "w"))
    before = evaluated(workspace)["weights"]
    path = workspace.estimators / "l_snr" / "ridge" / "out_of_fold.parquet"
    pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(path, index=False)
    assert evaluated(workspace)["weights"] == before
    pd.read_parquet(path).iloc[1:].to_parquet(path, index=False)
    with pytest.raises(InputError, match="is of other prompts or candidates than the tables"):
        evaluated(workspace)


def test_test_prompts_without_a_common_metric_are_refused(built, tmp_path):
    workspace = Workspace(shutil.copytree(built.root, tmp_path / "w"))
    prompts, scores = pd.read_parquet(workspace.prompts), pd.read_parquet(workspace.scores)
    test = prompts.loc[prompts["split"] == "test", "prompt_id"]
    gone = [
        scores["prompt_id"].isin(half) & (scores["metric"] == m)
        for half, m in ((test[::2], "l_snr"), (test[1::2], "clip_similarity"))
    ]
    write_table(scores[~(gone[0] | gone[1])], workspace.scores, SCORES)
    with pytest.raises(InputError, match="no test prompt has a label of every plateau metric"):
        evaluated(workspace, "validate.complete_labels=false")


def test_a_budget_that_the_literal_rule_cannot_keep_is_refused(built, tmp_path):
    workspace = Workspace(shutil.copytree(built.root, tmp_path / "w"))
    with pytest.raises(InputError, match="the last step always wins, so that no budget is kept"):
        evaluated(workspace, "evaluate.plateau.literal=true", "evaluate.plateau.budget=50%")


def test_what_is_not_trained_is_named(built):
    data = MetricData(
        "clip_similarity", *(np.zeros((3, 4)) for _ in range(3)), {"lstm": (np.zeros((3, 4)),) * 2}
    )
    found, pool = (
        [(data, pd.DataFrame({"prompt_id": ["a", "b", "c"]}))],
        Pool(list(COST), np.array(list(COST.values())), "tflops"),
    )
    known = Known(pd.DataFrame(), pd.DataFrame())

    def asked(**settings):
        params = parse_params(
            {
                "pool": "mini",
                "evaluate": {"plateau": {"metrics": {"clip_similarity": {}}, **settings}},
            },
            "params.yaml",
        )
        return plateau(built, params, found, known, pool, own=True)

    with pytest.raises(
        InputError,
        match=(
            r"evaluate.plateau.estimator: 'lstn' is not trained on clip_similarity .did you mean"
            r" 'lstm'"
        ),
    ):
        asked(estimator="lstn")
    with pytest.raises(
        InputError,
        match=r"evaluate.plateau.metrics: 'ssim' is not trained.*add it to train.metrics",
    ):
        asked(metrics={"ssim": {}})
    assert asked(metrics={}) is None


def test_a_series_is_of_one_setting(built):
    params = load_params(built.params)
    kinds = step_groups(load_pool(params.pool, built.pools), dict.fromkeys([*COST, "mine"], "mini"))
    assert kinds == {
        "mini-1": "mini",
        "mini-2": "mini",
        "mini-4": "mini",
        "ddim-2": "mini, scheduler=DDIMScheduler",
        "mine": "mini",
    }
    pool = Pool(list(COST), np.array(list(COST.values())), "tflops")
    series = step_candidates(built, params, pool)
    assert (series.columns, series.steps.tolist(), series.reference, series.others) == (
        [0, 1, 2],
        [1, 2, 4],
        2,
        [[3]],
    )


def test_imported_candidates_have_no_steps(built, tmp_path):
    workspace = Workspace(tmp_path)
    write_table(
        pd.DataFrame(
            [("a", "a", 0, 1.0, "usd"), ("b", "a", 0, 2.0, "usd")], columns=CANDIDATES.names
        ),
        workspace.candidates,
        CANDIDATES,
    )
    params = parse_params({"import": {"kind": "scores"}, "cost_unit": "usd"}, "params.yaml")
    with pytest.raises(InputError, match="one generator with two numbers of steps"):
        step_candidates(workspace, params, Pool(["a", "b"], np.array([1.0, 2.0]), "usd"))


def test_a_budget_is_a_number_or_a_percentage():
    cost = np.array([1.0, 8.0])
    assert [budget_of(text, cost) for text in ("", "40%", "2.5")] == [None, 3.2, 2.5]
    with pytest.raises(InputError, match="neither a mean cost nor a percentage"):
        budget_of("much", cost)
    for text in ("nan", "nan%", "inf"):
        with pytest.raises(InputError, match="neither a mean cost nor a percentage"):
            budget_of(text, cost)

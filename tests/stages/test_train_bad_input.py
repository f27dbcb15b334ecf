"""Invalid input of the stage train: the error names the cause, and the previous output is kept."""

import numpy as np
import pandas as pd
import pytest
import yaml

from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table, write_table
from catimage.errors import InputError
from catimage.params import load_params
from catimage.stages import train
from catimage.workspace import Workspace
from tests.provenance import mark_validated
from tests.trained_workspace import save_tables

PREVIOUS = "output of an earlier run"


def train_on_tables(root, change=None, estimators=("ridge",), folds=0, **settings):
    """Run the stage train on 60 prompts, and return the workspace.

    Args:
        root: folder of the workspace.
        change: a function of the tables ``(candidates, scores, prompts)`` that returns the
            candidates and the scores to use.
        estimators: setting ``train.estimators``.
        folds: setting ``train.folds``.
        settings: further sections of ``params.yaml``.
    """
    workspace = Workspace(root)
    save_tables(workspace, 60)
    if change:
        tables = [
            read_table(path, schema, "test")
            for path, schema in (
                (workspace.candidates, CANDIDATES),
                (workspace.scores, SCORES),
                (workspace.prompts, PROMPTS),
            )
        ]
        candidates, scores = change(*tables)
        write_table(candidates, workspace.candidates, CANDIDATES)
        write_table(scores, workspace.scores, SCORES)
    mark_validated(workspace)
    workspace.estimators.mkdir(parents=True)
    (workspace.estimators / "before").write_text(PREVIOUS)
    workspace.params.write_text(
        yaml.safe_dump(
            {
                "pool": "miniature",
                "train": {"estimators": list(estimators), "folds": folds},
                **settings,
            }
        )
    )
    train.run(workspace, load_params(workspace.params))
    return workspace


def assert_refused(root, match, *args, **settings):
    """Run :func:`train_on_tables`, and check the message and that the output is unchanged."""
    with pytest.raises(InputError, match=match) as caught:
        train_on_tables(root, *args, **settings)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert [p.name for p in Workspace(root).estimators.iterdir()] == ["before"]


def keep_one_candidate(candidates, scores, prompts):
    return candidates.iloc[:1], scores[scores["candidate"] == "mini-1"]


def set_equal_scores(candidates, scores, prompts):
    return candidates, scores.assign(value=0.3)


def set_scores_equal_up_to_rounding(candidates, scores, prompts):
    return candidates, scores.assign(value=0.3 + 1e-9 * (np.arange(len(scores)) % 2))


def remove_train_scores_of_one_candidate(candidates, scores, prompts):
    train_ids = prompts.loc[prompts["split"] == "train", "prompt_id"]
    return (
        candidates,
        scores[(scores["candidate"] != "mini-2") | ~scores["prompt_id"].isin(train_ids)],
    )


def test_a_single_candidate_is_refused(tmp_path):
    assert_refused(tmp_path, "'mini-1' is the only candidate.*Add another", keep_one_candidate)


@pytest.mark.parametrize("change", [set_equal_scores, set_scores_equal_up_to_rounding])
def test_a_constant_metric_is_refused(change, tmp_path):
    assert_refused(
        tmp_path, "every label of clip_score in the train split is 0.3.*nothing to learn", change
    )


def test_a_candidate_without_labels_is_named(tmp_path):
    assert_refused(
        tmp_path,
        "candidate 'mini-2' has no score by clip_score",
        remove_train_scores_of_one_candidate,
        validate={"complete_labels": False},
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("high", "cannot be fitted with the settings alpha: high.*Correct the settings"),
        (-5, "cannot be fitted with the settings alpha: -5.*Correct the settings"),
    ],
)
def test_invalid_settings_are_named(value, message, tmp_path):
    assert_refused(
        tmp_path, f"ridge .*{message}", None, [{"name": "ridge", "settings": {"alpha": value}}]
    )


def test_settings_with_predictions_that_are_not_finite_are_named(tmp_path, monkeypatch):
    class Diverged:
        def predict(self, prompts):
            return np.full((len(prompts), 3), np.nan)

    monkeypatch.setattr(train, "fit", lambda *_: Diverged())
    message = r"ridge .*not finite\. Correct its settings \(alpha: 5\)"
    assert_refused(tmp_path, message, None, [{"name": "ridge", "settings": {"alpha": 5}}])


def test_features_that_a_kind_does_not_support_are_named(tmp_path):
    assert_refused(
        tmp_path,
        "ridge cannot be fitted with the settings features: tokens",
        None,
        [{"name": "ridge", "features": ["tokens"]}],
    )


def test_members_of_an_estimator_that_is_not_a_stack_are_refused(tmp_path):
    estimators = ["knn", {"name": "mine", "kind": "ridge", "members": ["knn"]}]
    assert_refused(tmp_path, "mine has 'members', but its kind is ridge", None, estimators)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_that_are_not_finite_are_refused(value, tmp_path):
    assert_refused(
        tmp_path,
        "the setting alpha must be finite, not (nan|inf)",
        None,
        [{"name": "ridge", "settings": {"alpha": value}}],
    )


def test_internal_errors_are_not_attributed_to_the_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *_: pd.DataFrame().no_such_thing)
    with pytest.raises(AttributeError):
        train_on_tables(tmp_path / "a", None, [{"name": "ridge", "settings": {"alpha": 1.0}}])

    def fails(*_):
        raise ValueError("an internal error")

    monkeypatch.setattr(train, "fit", fails)
    with pytest.raises(ValueError, match="an internal error") as caught:
        train_on_tables(tmp_path / "b")
    assert not isinstance(caught.value, InputError)


def test_cross_validation_saves_a_spread_with_each_estimator(tmp_path):
    workspace = train_on_tables(tmp_path, folds=3)
    from catimage.estimators import store

    spread, meta = store.load(workspace.estimators / "clip_score" / "ridge" / "spread")
    predicted = spread.predict(np.array(["plain amber number 3", "crowded basil number 4"], object))
    assert predicted.shape == (2, 3) and (predicted > 0).all() and np.isfinite(predicted).all()
    assert meta["candidates"] == ["mini-1", "mini-2", "mini-4"]
    assert (spread.named_steps["regressor"].seed_share_ >= 0).all(), (
        "two seeds per prompt suffice to estimate the share of the variance that seeds explain"
    )

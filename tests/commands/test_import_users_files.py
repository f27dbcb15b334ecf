"""Imports of files as users have them, up to the stages that read the tables."""

import csv
import json
import random

import numpy as np
import pandas as pd
import pytest

from catimage.cli.app import main
from catimage.commands import import_images, import_scores
from catimage.commands.candidate_data import read_candidate
from catimage.data.schema import PROMPTS, SCORES, read_table
from catimage.errors import InputError
from catimage.params import load_params
from catimage.stages import label, validate
from catimage.workspace import Workspace
from tests.commands.image_lists import images_of, rows_of, write_images

CANDIDATES = ("cheap", "middle", "best")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def write_rows(folder, rows, name="scores.csv"):
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "candidate", "seed", "metric", "value"], *rows])
    return folder / name


def rows_with_seeds(seeds, n=120):
    """Return a score of each prompt and candidate, with the seeds of an iterator."""
    rng = random.Random(0)
    return [
        [f"a cat, number {i}", candidate, next(seeds), "quality", round(rng.random(), 4)]
        for i in range(n)
        for candidate in CANDIDATES
    ]


@pytest.mark.parametrize("kind", ["prompt", "row"])
def test_every_prompt_or_row_may_have_a_seed_of_its_own(tmp_path, workspace, kind):
    rng = random.Random(1)
    seeds = iter(
        [seed for _ in range(120) for seed in [rng.getrandbits(64)] * 3]
        if kind == "prompt"
        else [rng.getrandbits(64) for _ in range(360)]
    )
    import_scores.run(workspace, write_rows(tmp_path, rows_with_seeds(seeds)), None, [])
    validate.run(workspace, load_params(workspace.params))
    assert read_table(workspace.scores, SCORES, "")["seed"].nunique() == (
        120 if kind == "prompt" else 360
    )


def test_every_image_may_have_a_seed_of_its_own(tmp_path, workspace, metrics):
    rows = rows_of(prompts=120, seeds=(0,))
    for number, row in enumerate(rows):
        row[2] = 10**9 + number
    settings = ["label.metrics=[level]", "metric=level"]
    import_images.run(workspace, write_images(tmp_path, rows), None, settings)
    params = load_params(workspace.params)
    label.run(workspace, params)
    validate.run(workspace, params)
    assert len(read_table(workspace.scores, SCORES, "")) == 240
    write_images(tmp_path, rows[:-1])
    with pytest.raises(
        InputError, match=r"'a scene 119' has 0 images of the candidate 'expensive'"
    ):
        import_images.run(workspace, tmp_path / "images.csv", None, settings)


def test_a_list_of_images_may_have_paths_and_line_ends_of_windows(tmp_path, workspace):
    rows = rows_of(prompts=2)
    path = write_images(tmp_path, rows)
    text = path.read_text().replace("images/", "images\\").replace("\n", "\r\n")
    path.write_bytes(text.replace("\r\r", "\r").encode())
    import_images.run(workspace, path, None, [])
    assert len(images_of(workspace)) == len(rows)


def test_spellings_in_a_list_of_images_are_one_prompt(tmp_path, workspace, capsys):
    rows = rows_of(prompts=2)
    path = write_images(tmp_path, rows)
    path.write_text(path.read_text().replace("a scene 1", "A  scene: 0"))
    import_images.run(workspace, path, None, [])
    assert read_table(workspace.prompts, PROMPTS, "")["prompt"].tolist() == ["a scene 0"]
    images = images_of(workspace)
    assert len(images) == len(rows)
    assert len({seed for _, _, seed in images}) == 4
    assert "1 prompt differs from another prompt of the file only in" in capsys.readouterr().out


def test_a_list_of_images_may_be_a_json_file_without_seeds(tmp_path, workspace):
    write_images(tmp_path, rows_of(prompts=2, seeds=(0, 1)))
    frame = pd.read_csv(tmp_path / "images.csv")[["prompt", "candidate", "path"]]
    frame.to_json(tmp_path / "images.json", orient="records")
    import_images.run(workspace, tmp_path / "images.json", None, [])
    assert sorted({seed for _, _, seed in images_of(workspace)}) == [0, 1]


def test_votes_on_two_of_three_candidates_per_prompt_are_refused_with_the_reason(
    tmp_path, workspace
):
    rng = random.Random(1)
    rows = [
        [f"a cat on roof number {i}", candidate, 0, "win", value]
        for i in range(250)
        for candidate, value in zip(rng.sample(CANDIDATES, 2), (1, 0), strict=True)
    ]
    path = write_rows(tmp_path, rows)
    with pytest.raises(InputError, match="has no 'win' score for the candidate"):
        import_scores.run(workspace, path, None, [])
    with pytest.raises(
        InputError, match=r"no prompt has a 'win' score of every candidate.*Add the missing scores"
    ):
        import_scores.run(workspace, path, None, ["validate.complete_labels=false"])
    assert not workspace.root.exists()
    rows.append(["a cat on roof number 0", "best", 1, "win", 1])
    rows += [["a cat", candidate, 0, "win", 1] for candidate in CANDIDATES]
    import_scores.run(
        workspace, write_rows(tmp_path, rows), None, ["validate.complete_labels=false"]
    )


def test_notes_are_printed(tmp_path, workspace, capsys):
    rows = [[*row, 9] for row in rows_with_seeds(iter([0] * 360))]
    path = tmp_path / "scores.csv"
    header = ["prompt", "candidate", "seed", "metric", "value", "cost"]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [header, *rows, ["A Cat: number 7", "cheap", 0, "quality", 1, 9]]
        )
    import_scores.run(workspace, path, None, [])
    out = capsys.readouterr().out
    assert "the column 'cost' is ignored. Costs are read from the file of the option --costs" in out
    assert "1 prompt differs from another prompt of the file only in case, punctuation" in out
    prompts = read_table(workspace.prompts, PROMPTS, "")
    assert (len(prompts), "imported into" in out) == (120, True)


def test_the_metric_of_a_file_without_a_column_of_metrics_is_that_of_the_settings(
    tmp_path, workspace
):
    path = tmp_path / "wide.csv"
    path.write_text(
        "prompt,length,cheap,best\n" + "".join(f"a cat {i},9,1,{i}\n" for i in range(5))
    )
    costs = tmp_path / "costs.tsv"
    costs.write_text("candidate\tcost\nbest\t3\ncheap\t1\n")
    import_scores.run(workspace, path, costs, ["metric=nima"])
    params = load_params(workspace.params)
    assert (params.metric, params.cost_unit, params.budget) == ("nima", "unit", "40%")
    assert set(read_table(workspace.scores, SCORES, "")["candidate"]) == {"cheap", "best"}
    import_scores.run(workspace, path, costs, [])
    assert load_params(workspace.params).metric == "nima"


@pytest.mark.parametrize("metric", ["../../../escaped", "{root}/absolute/x"])
def test_a_metric_that_is_a_path_writes_nothing(tmp_path, workspace, metric):
    rows = rows_with_seeds(iter([0] * 360))
    for row in rows:
        row[3] = metric.format(root=tmp_path)
    path = write_rows(tmp_path, rows)
    with pytest.raises(InputError, match=r"row 2: the metric .* contains a slash"):
        import_scores.run(workspace, path, None, [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.csv"]


def add_estimator(workspace):
    """Make a workspace look as if an estimator had been trained."""
    (workspace.estimators / "quality" / "ridge").mkdir(parents=True)


def contents(root):
    files = (p for p in root.rglob("*") if p.is_file() and not p.name.endswith(".lock"))
    return {p: p.read_bytes() for p in files}


def test_data_of_a_trained_workspace_are_replaced_only_on_request(tmp_path, workspace):
    path = write_rows(tmp_path, rows_with_seeds(iter([0] * 360)))
    import_scores.run(workspace, path, None, [])
    import_scores.run(workspace, write_rows(tmp_path, rows_with_seeds(iter([1] * 360))), None, [])
    add_estimator(workspace)
    path = path.rename(tmp_path / "renamed.csv")
    import_scores.run(workspace, path, None, ["budget=1"])
    assert load_params(workspace.params).budget == "1", "the same file may be imported again"
    other = write_rows(tmp_path, rows_with_seeds(iter([2] * 360)), "other.csv")
    before = contents(workspace.root)
    with pytest.raises(
        InputError,
        match=r"scores.parquet: the import would replace these data, and estimators have been"
        r" trained on them\. Import into another workspace, or add --replace",
    ):
        import_scores.run(workspace, other, None, ["budget=2"])
    assert contents(workspace.root) == before
    import_scores.run(workspace, other, None, [], replace=True)
    assert set(read_table(workspace.scores, SCORES, "")["seed"]) == {2}


def test_generated_data_are_replaced_only_on_request(tmp_path, workspace):
    path = write_rows(tmp_path, rows_with_seeds(iter([0] * 360)))
    import_scores.run(workspace, path, None, [])
    workspace.params.write_text("metric: quality\n")
    other = write_rows(tmp_path, rows_with_seeds(iter([2] * 360)), "other.csv")
    with pytest.raises(InputError, match=r"and they were not imported\. .* add --replace"):
        import_scores.run(workspace, other, None, [])
    import_scores.run(workspace, other, None, [], replace=True)


def test_images_of_a_trained_workspace_are_replaced_only_on_request(tmp_path, workspace):
    rows = rows_of()
    import_images.run(workspace, write_images(tmp_path, rows), None, [])
    add_estimator(workspace)
    import_images.run(workspace, write_images(tmp_path, rows), None, [])
    before = contents(workspace.root)
    first = tmp_path / rows[0][3]
    first.write_bytes((tmp_path / rows[1][3]).read_bytes())
    with pytest.raises(InputError, match=r"data/images: the import would replace these data"):
        import_images.run(workspace, write_images(tmp_path, rows), None, [])
    with pytest.raises(InputError, match=r"prompts.parquet: the import would replace these data"):
        import_images.run(workspace, write_images(tmp_path, rows[:-4]), None, [])
    assert contents(workspace.root) == before
    import_images.run(workspace, write_images(tmp_path, rows), None, [], replace=True)
    assert images_of(workspace) != {}


def test_the_command_has_an_option_that_replaces_data(tmp_path, workspace, monkeypatch, capsys):
    def command(path, *options):
        arguments = ["catimage", "import-scores", str(path), "--workspace", str(workspace.root)]
        monkeypatch.setattr("sys.argv", [*arguments, *options])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0

    assert command(write_rows(tmp_path, rows_with_seeds(iter([0] * 360)))) == 0
    add_estimator(workspace)
    other = write_rows(tmp_path, rows_with_seeds(iter([2] * 360)), "other.csv")
    assert command(other) == 2
    assert "add --replace" in capsys.readouterr().err
    assert command(other, "--replace") == 0


def test_unsigned_seeds_are_stored_and_kept_apart(tmp_path, workspace):
    seeds = [15112855600461543721, 2**63, 2**64 - 1, 5]
    rows = [["a cat", c, seed, "quality", 1] for c in CANDIDATES for seed in seeds]
    path = tmp_path / "scores.jsonl"
    keys = ("prompt", "candidate", "seed", "metric", "value")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    import_scores.run(workspace, path, None, [])
    stored = read_table(workspace.scores, SCORES, "")["seed"].to_numpy()
    assert sorted(np.unique(stored).view(np.uint64).tolist()) == sorted(seeds)


@pytest.mark.parametrize("shape", ["long", "wide"])
def test_scores_of_an_added_candidate_may_have_other_spellings(tmp_path, workspace, shape):
    path = write_rows(tmp_path, rows_with_seeds(iter([0] * 360)))
    import_scores.run(workspace, path, None, [])
    prompts = read_table(workspace.prompts, PROMPTS, "")
    texts = [text.upper().replace(",", " ") for text in prompts["prompt"]]
    scores = pd.DataFrame({"prompt": texts, "candidate": "new", "seed": 0, "value": 0.5})
    if shape == "wide":
        scores = scores.rename(columns={"value": "new"}).drop(columns="candidate")
    scores.to_csv(tmp_path / "new.csv", index=False)
    data = read_candidate("new", prompts, "unit", tmp_path / "new.csv", None, "quality")
    assert data.scores["prompt_id"].tolist() == prompts["prompt_id"].tolist()
    assert set(data.scores["metric"]) == {"quality"}
    scores.head(1).assign(prompt="a dog").to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(InputError, match="row 2: the workspace does not have this prompt"):
        read_candidate("new", prompts, "unit", tmp_path / "new.csv", None, "quality")

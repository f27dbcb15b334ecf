import io
import json

import numpy as np
import pytest
from PIL import Image

from catimage.cli.app import main
from catimage.commands import import_images
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table
from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import decode_image
from catimage.errors import InputError
from catimage.params import load_params
from catimage.stages import calibrate, evaluate, generate, label, sample, train, validate
from catimage.workspace import Workspace
from tests.commands.image_lists import images_of, pixels_of, rows_of


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def test_all_files_are_written(write, workspace, tmp_path, capsys):
    rows = rows_of()
    (tmp_path / "costs.csv").write_text(
        "candidate,cost,unit\ncheap,1,seconds\nexpensive,3,seconds\n"
    )
    import_images.run(workspace, write(rows), tmp_path / "costs.csv", ["generate.shard_images=3"])
    prompts, candidates = (
        read_table(p, s, "")
        for p, s in ((workspace.prompts, PROMPTS), (workspace.candidates, CANDIDATES))
    )
    assert prompts["prompt"].tolist() == [f"a scene {i}" for i in range(4)]
    assert set(prompts["source"]) == {"images.csv"}
    assert candidates.to_numpy().tolist() == [
        ["cheap", "cheap", 0, 1.0, "seconds"],
        ["expensive", "expensive", 0, 3.0, "seconds"],
    ]
    stored = images_of(workspace)
    assert stored == {
        (prompt_id(r[0]), r[1], r[2]): (tmp_path / r[3]).read_bytes() for r in rows
    }, "stored byte for byte"
    assert sorted(e.images for e in read_manifest(workspace.images)) == [2, 2, 3, 3, 3, 3]
    params = load_params(workspace.params)
    assert (
        params.cost_unit,
        params.budget,
        params.train.estimators[0].name,
        params.imported.kind,
    ) == ("seconds", "40%", "ridge", "images")
    assert "4 prompts, 2 candidates, 16 images\n" in capsys.readouterr().out


def test_other_formats_and_transparent_images_are_encoded_as_png(write, workspace, tmp_path):
    rows = rows_of(prompts=2, seeds=(0,))
    for row, name in zip(rows, ("a.jpg", "b.webp", "c.bmp", "d.png"), strict=True):
        row[3] = str(tmp_path / "images" / name) if name == "c.bmp" else f"images/{name}"
    images_csv = write(rows)
    Image.new("RGBA", (8, 8), (9, 8, 7, 100)).save(tmp_path / "images" / "d.png")
    import_images.run(workspace, images_csv, None, [])
    image_by_signature = {image[:4]: image for image in images_of(workspace).values()}
    assert sorted(image_by_signature) == [b"RIFF", b"\x89PNG", b"\xff\xd8\xff\xe0"]
    by_name = {(r[0], r[1]): r[3] for r in rows}
    for (identifier, candidate, _), image in images_of(workspace).items():
        name = next(
            n for (p, c), n in by_name.items() if (prompt_id(p), c) == (identifier, candidate)
        )
        expected = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        if name.endswith("d.png"):  # 100/255 of the colour, on white
            expected = np.full((8, 8, 3), np.round(255 - (255 - np.array([9, 8, 7])) * 100 / 255))
        assert (decode_image(image) == expected).all()
        assert Image.open(io.BytesIO(image)).mode == "RGB"


def test_uniform_image_is_valid(write, workspace, tmp_path):
    rows = rows_of()
    images_csv = write(rows)
    Image.new("RGB", (8, 8)).save(tmp_path / rows[5][3])
    import_images.run(workspace, images_csv, None, [])
    assert len(images_of(workspace)) == 16


def test_shards_depend_on_the_images(write, workspace, tmp_path):
    rows = rows_of()
    import_images.run(workspace, write(rows), None, [])
    first = read_manifest(workspace.images)
    import_images.run(workspace, write(rows), None, [])
    assert read_manifest(workspace.images) == first
    Image.new("RGB", (8, 8)).save(tmp_path / rows[0][3])
    import_images.run(workspace, write(rows), None, [])
    again = read_manifest(workspace.images)
    assert [a.shard == b.shard for a, b in zip(first, again, strict=True)] == [False, True]
    assert {p.stem for p in workspace.images.glob("*.parquet")} == {e.shard for e in again}


def test_reference_images_are_those_of_the_reference_candidate(write, workspace, tmp_path, metrics):
    rows = rows_of()
    settings = ["label.metrics=[distance, level]", "metric=distance"]
    import_images.run(workspace, write(rows), None, settings)
    with pytest.raises(
        InputError,
        match=(
            r"params.yaml: import: no metric_reference for the candidate 'cheap', and the metric"
            r" 'distance' needs reference images"
        ),
    ):
        label.run(workspace, load_params(workspace.params))
    params = load_params(
        workspace.params, ["import.metric_reference={cheap: expensive, expensive: expensive}"]
    )
    label.run(workspace, params)
    scores = read_table(workspace.scores, SCORES, "label").query("metric == 'distance'")
    values = scores.set_index(["prompt_id", "candidate", "seed"])["value"]
    for row in rows:
        reference = pixels_of([row[0], "expensive", row[2]]).astype(float)
        assert values[prompt_id(row[0]), row[1], row[2]] == pytest.approx(
            np.abs(pixels_of(row) - reference).mean()
        )
    import_images.run(workspace, write(rows), None, [])
    assert load_params(workspace.params).imported == params.imported, (
        "a second import keeps the parameters of the workspace"
    )
    assert not workspace.scores.exists()


def test_sample_and_generate_are_refused(write, workspace):
    import_images.run(workspace, write(rows_of()), None, [])
    params = load_params(workspace.params)
    for stage in (sample, generate):
        with pytest.raises(
            InputError,
            match=(
                r"stage (sample|generate) would replace the data of this workspace, which"
                r" 'catimage import-images' imported"
            ),
        ):
            stage.run(workspace, params)


@pytest.mark.parametrize(("metric", "best"), [("darkness", "cheap"), ("both", "expensive")])
def test_stages_from_label_to_evaluate_run(write, workspace, tmp_path, metrics, metric, best):
    (tmp_path / "costs.csv").write_text(
        "candidate,cost,unit\ncheap,1,seconds\nexpensive,3,seconds\n"
    )
    both = (
        "label.composites={both: {terms: {level: {scale: [0, 0.4], weight: 5}, darkness: {scale:"
        " [0, 0.4]}}}}"
    )
    settings = [
        f"metric={metric}",
        "label.metrics=[level, darkness, both]",
        both,
        "evaluate.bootstrap=100",
    ]
    import_images.run(
        workspace, write(rows_of(prompts=120, seeds=(0, 1))), tmp_path / "costs.csv", settings
    )
    params = load_params(workspace.params)
    for stage in (label, validate, train, calibrate, evaluate):
        stage.run(workspace, params)
    document = json.loads((workspace.reports / "metrics.json").read_text())
    assert (document["metric"], document["cost_unit"], document["best_single"]["candidate"]) == (
        metric,
        "seconds",
        best,
    )
    assert json.loads((workspace.reports / "validation.json").read_text())["kind"] == "images"
    assert "data:image/png" in (workspace.reports / "report.html").read_text()


def test_command_exits_with_status_2_for_an_unknown_metric(write, workspace, monkeypatch, capsys):
    images_csv = write(rows_of())
    monkeypatch.setattr(
        "sys.argv",
        [
            "catimage",
            "import-images",
            str(images_csv),
            "--workspace",
            str(workspace.root),
            "--set",
            "metric=beauty",
        ],
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("catimage: metric 'beauty': unknown metric")
    monkeypatch.setattr(
        "sys.argv",
        ["catimage", "import-images", str(images_csv), "--workspace", str(workspace.root)],
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert len(images_of(workspace)) == 16

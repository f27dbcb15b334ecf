import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catimage.cli.app import main
from catimage.commands import import_images
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table
from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import decode_image, read_shard
from catimage.errors import InputError
from catimage.metrics.metric import Metric, ReferenceMetric
from catimage.params import load_params
from catimage.stages import calibrate, evaluate, generate, label, sample, train, validate
from catimage.workspace import Workspace

HEADER = ["prompt", "candidate", "seed", "path"]


def rows_of(prompts=4, candidates=("cheap", "expensive"), seeds=(3, 8)):
    return [
        [f"a scene {i}", c, s, f"images/{c}-{i}-{s}.png"]
        for i in range(prompts)
        for c in candidates
        for s in seeds
    ]


def pixels_of(row, size=8):
    """Return noise whose level grows with the prompt number, faster for ``expensive``."""
    number = int(row[0].split()[-1])
    rng = np.random.default_rng([number, row[2], len(row[1])])
    return rng.integers(
        0, 20 + number % 50 * (3 if row[1] == "expensive" else 1), (size, size, 3), np.uint8
    )


@pytest.fixture
def write(tmp_path):
    """A function that writes images and their list, and returns the path of the list."""

    def write_list(rows, header=HEADER, size=8):
        (tmp_path / "images").mkdir(exist_ok=True)
        for row in rows:
            if (
                len(row) == 4
                and isinstance(row[2], int)
                and row[0].strip()
                and not (tmp_path / row[3]).exists()
            ):
                Image.fromarray(pixels_of(row, size)).save(tmp_path / row[3])
        with (tmp_path / "images.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return tmp_path / "images.csv"

    return write_list


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def files_of(root):
    return {
        p.relative_to(root): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and not p.name.endswith(".lock")
    }


def images_of(workspace):
    """Return the encoded images by prompt, candidate and seed."""
    images = {}
    for entry in read_manifest(workspace.images):
        table, digest = read_shard(workspace.images, entry.shard)
        assert (digest, table.num_rows, set(table.column("candidate").to_pylist())) == (
            entry.digest,
            entry.images,
            {entry.candidate},
        )
        images |= {
            (r["prompt_id"], r["candidate"], r["seed"]): r["image"] for r in table.to_pylist()
        }
    return images


class Level(Metric):
    name = "level"
    range = (0.0, 1.0)

    def score(self, images, prompts):
        return images.mean((1, 2, 3)) / 255


class Darkness(Level):
    name = "darkness"
    higher_is_better = False


class Distance(ReferenceMetric):
    name = "distance"
    range = (0.0, 255.0)
    higher_is_better = False

    def score(self, images, prompts, references):
        return np.abs(images.astype(float) - references).mean((1, 2, 3))


@pytest.fixture
def metrics(monkeypatch):
    known = {c.name: f"{__name__}:{c.__name__}" for c in (Level, Darkness, Distance)}
    monkeypatch.setattr("catimage.metrics.registry.METRICS", known)


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


def test_other_formats_are_encoded_as_png(write, workspace, tmp_path):
    rows = rows_of(prompts=2, seeds=(0,))
    for row, name in zip(rows, ("a.jpg", "b.webp", "c.bmp", "d.png"), strict=True):
        row[3] = str(tmp_path / "images" / name) if name == "c.bmp" else f"images/{name}"
    manifest = write(rows)
    Image.new("RGBA", (8, 8), (9, 8, 7, 100)).save(tmp_path / "images" / "d.png")
    import_images.run(workspace, manifest, None, [])
    kinds = {image[:4]: image for image in images_of(workspace).values()}
    assert sorted(kinds) == [b"RIFF", b"\x89PNG", b"\xff\xd8\xff\xe0"]
    by_name = {(r[0], r[1]): r[3] for r in rows}
    for (identifier, candidate, _), image in images_of(workspace).items():
        name = next(
            n for (p, c), n in by_name.items() if (prompt_id(p), c) == (identifier, candidate)
        )
        assert (decode_image(image) == np.asarray(Image.open(tmp_path / name).convert("RGB"))).all()


def test_uniform_image_is_valid(write, workspace, tmp_path):
    rows = rows_of()
    manifest = write(rows)
    Image.new("RGB", (8, 8)).save(tmp_path / rows[5][3])
    import_images.run(workspace, manifest, None, [])
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


def _set_cell(row, column, value):
    def damage(rows, folder):
        rows[row][column] = value

    return damage


def _change_file(row, change):
    def damage(rows, folder):
        change(folder / rows[row][3])

    return damage


def _truncate(path):
    path.write_bytes(path.read_bytes()[:100])


def _widen(path):
    Image.new("RGB", (9, 8)).save(path)


BAD_IMAGES = [
    (_change_file(5, Path.unlink), r"images.csv: row 7: .*cheap-1-8.png: image file not found"),
    (_change_file(5, _truncate), r"images.csv: row 7: .*cheap-1-8.png: cannot read the image file"),
    (
        _change_file(5, lambda path: path.write_text("hello")),
        r"images.csv: row 7: .*cheap-1-8.png: cannot read the image file",
    ),
    (
        _change_file(5, _widen),
        (
            r"row 7: .*cheap-1-8.png has 9 x 8 pixels, and .*cheap-0-3.png has 8 x 8. All images of"
            r" the candidate 'cheap' must"
        ),
    ),
]
BAD_ROWS = [
    (_set_cell(5, 0, " "), "images.csv: row 7: the prompt is empty"),
    (_set_cell(5, 1, ""), "images.csv: row 7: the candidate is empty"),
    (_set_cell(5, 2, "1.5"), "images.csv: row 7: the seed is '1.5', not a whole number"),
    (_set_cell(5, 3, ""), "images.csv: row 7: the path is empty"),
    (_set_cell(5, 2, 3), "rows 6 and 7 both have the same prompt, candidate cheap, seed 3"),
    (
        _set_cell(5, 2, 4),
        "row 2: the prompt 'a scene 0' has no image of the candidate 'cheap' at seed 4. Add it",
    ),
    (
        lambda rows, folder: rows.pop(5),
        "row 6: the prompt 'a scene 1' has no image of the candidate 'cheap' at seed 8. Add it",
    ),
    (lambda rows, folder: rows[5].pop(), "row 7 has 3 cells and the header 4"),
    (lambda rows, folder: rows.clear(), "there are no rows after the header"),
]


@pytest.mark.parametrize(("damage", "message"), [*BAD_IMAGES, *BAD_ROWS])
def test_invalid_input_is_rejected_and_nothing_is_written(
    write, workspace, tmp_path, damage, message
):
    import_images.run(workspace, write(rows_of(candidates=("expensive",))), None, [])
    before = files_of(workspace.root)
    rows = rows_of()
    write(rows)
    damage(rows, tmp_path)
    damaged = {p: p.read_bytes() for p in (tmp_path / "images").iterdir()}
    with (tmp_path / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    with pytest.raises(InputError, match=message) as error:
        import_images.run(workspace, tmp_path / "images.csv", None, ["generate.shard_images=2"])
    assert "\n" not in str(error.value)
    assert files_of(workspace.root) == before
    assert {p: p.read_bytes() for p in (tmp_path / "images").iterdir()} == damaged


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["label.metrics=[sharpnes]"],
            "metric 'sharpnes': unknown metric .did you mean 'sharpness'",
        ),
        (["metric=beauty"], "metric 'beauty': unknown metric"),
        (["cost_unit=seconds"], "no cost in the unit 'seconds'. Give --costs COSTS.csv"),
        (
            ["import.metric_reference={cheap: expensiv}"],
            "import.metric_reference: unknown candidate 'expensiv' .did you mean 'expensive'",
        ),
        (
            ["import.lower_is_better=[level]"],
            "lower_is_better applies to imported scores only, but kind is images",
        ),
        (["bugdet=2"], "unknown key 'bugdet'"),
    ],
)
def test_invalid_settings_are_rejected_before_anything_is_written(
    write, workspace, settings, message
):
    with pytest.raises(InputError, match=message):
        import_images.run(workspace, write(rows_of()), None, settings)
    assert not workspace.root.exists()


def test_missing_column_and_candidate_without_cost(write, workspace, tmp_path):
    with pytest.raises(InputError, match=r"the column 'path' is missing .did you mean 'paths'"):
        import_images.run(
            workspace, write(rows_of(), ["prompt", "candidate", "seed", "paths"]), None, []
        )
    (tmp_path / "costs.csv").write_text("candidate,cost,unit\ncheap,1,seconds\n")
    with pytest.raises(
        InputError, match=r"images.csv: row 4: candidate 'expensive' is not in .*costs.csv"
    ):
        import_images.run(workspace, write(rows_of()), tmp_path / "costs.csv", [])
    assert not workspace.root.exists()


@pytest.mark.parametrize(("damage", "message"), BAD_IMAGES)
def test_invalid_images_can_be_skipped(
    write, workspace, tmp_path, metrics, damage, message, capsys
):
    rows = rows_of()
    manifest = write(rows)
    damage(rows, tmp_path)
    settings = [
        "label.on_error=skip",
        "generate.shard_images=2",
        "label.metrics=[level]",
        "metric=level",
    ]
    import_images.run(workspace, manifest, None, settings)
    out = capsys.readouterr().out
    assert (
        "import-images: skipped: " in out
        and "15 images; 1 skipped; 'label' continues with --set validate.complete_labels=false"
        in out
    )
    assert set(images_of(workspace)) == {
        (prompt_id(r[0]), r[1], r[2]) for r in rows if r is not rows[5]
    }
    with pytest.raises(
        InputError, match=r"1 of 4 prompts lack images\. Run 'catimage import-images' first"
    ):
        label.run(workspace, load_params(workspace.params))
    label.run(workspace, load_params(workspace.params, ["validate.complete_labels=false"]))
    assert len(read_table(workspace.scores, SCORES, "label")) == 15


def test_candidate_without_a_valid_image_is_rejected(write, workspace, tmp_path):
    manifest = write(rows_of())
    for path in (tmp_path / "images").glob("expensive-*"):
        path.unlink()
    with pytest.raises(InputError, match="the candidate 'expensive' has no valid image"):
        import_images.run(workspace, manifest, None, ["label.on_error=skip"])
    assert files_of(workspace.root) == {}


def test_reference_images_are_those_of_the_reference_candidate(write, workspace, tmp_path, metrics):
    rows = rows_of()
    settings = ["label.metrics=[distance, level]", "metric=distance"]
    import_images.run(workspace, write(rows), None, settings)
    with pytest.raises(
        InputError,
        match=(
            r"'distance' needs a reference image, and params.yaml: import names no"
            r" metric_reference of the c"
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


def test_sample_and_generate_are_rejected(write, workspace):
    import_images.run(workspace, write(rows_of()), None, [])
    params = load_params(workspace.params)
    for stage in (sample, generate):
        with pytest.raises(
            InputError,
            match=(
                r"stage (sample|generate) would replace the data of this workspace, which"
                r" 'import-images' imported"
            ),
        ):
            stage.run(workspace, params)


@pytest.mark.parametrize(("metric", "best"), [("darkness", "cheap"), ("both", "expensive")])
def test_remaining_stages_run(write, workspace, tmp_path, metrics, metric, best):
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
    found = json.loads((workspace.reports / "metrics.json").read_text())
    assert (found["metric"], found["cost_unit"], found["best_single"]["candidate"]) == (
        metric,
        "seconds",
        best,
    )
    assert json.loads((workspace.reports / "validation.json").read_text())["kind"] == "images"
    assert "data:image/png" in (workspace.reports / "report.html").read_text()


def test_command_line(write, workspace, monkeypatch, capsys):
    manifest = write(rows_of())
    monkeypatch.setattr(
        "sys.argv",
        [
            "catimage",
            "import-images",
            str(manifest),
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
        "sys.argv", ["catimage", "import-images", str(manifest), "--workspace", str(workspace.root)]
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert len(images_of(workspace)) == 16

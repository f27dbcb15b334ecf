"""Refused lists of images, and images that are skipped."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from catimage.commands import import_images
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import SCORES, read_table
from catimage.errors import InputError
from catimage.params import load_params
from catimage.stages import label
from catimage.workspace import Workspace
from tests.commands.image_lists import HEADER, files_of, images_of, rows_of


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def _set_cell(row, column, value):
    """Return a function that changes a cell of the list."""

    def damage(rows, folder):
        rows[row][column] = value

    return damage


def _change_file(row, change):
    """Return a function that calls ``change`` with the path of the image of a row."""

    def damage(rows, folder):
        change(folder / rows[row][3])

    return damage


def _truncate(path):
    path.write_bytes(path.read_bytes()[:100])


def _widen(path):
    Image.new("RGB", (9, 8)).save(path)


BAD_IMAGES = [
    # A function that changes the files, and the message. Element 5 of the rows is row 7 of the
    # file, which begins with a header.
    (_change_file(5, Path.unlink), r"images.csv: row 7: .*cheap-1-8.png: image file not found"),
    (_change_file(5, _truncate), r"images.csv: row 7: .*cheap-1-8.png: cannot read the image file"),
    (
        _change_file(5, lambda path: path.write_text("hello")),
        r"images.csv: row 7: .*cheap-1-8.png: cannot read the image file",
    ),
    (
        _change_file(5, _widen),
        (
            r"row 7: .*cheap-1-8.png has 9 x 8 pixels, but .*cheap-0-3.png has 8 x 8. Resize or"
            r" remove it: all images of the candidate 'cheap' must"
        ),
    ),
]
BAD_ROWS = [
    (_set_cell(5, 0, " "), "images.csv: row 7: the prompt is empty"),
    (_set_cell(5, 1, ""), "images.csv: row 7: the candidate is empty"),
    (_set_cell(5, 1, "../x"), "images.csv: row 7: the candidate '../x' is a path. Rename it"),
    (_set_cell(5, 2, "1.5"), "images.csv: row 7: the seed is '1.5', not a whole number"),
    (_set_cell(5, 3, ""), "images.csv: row 7: the path is empty"),
    (_set_cell(5, 2, 3), "rows 6 and 7 both have the same prompt, candidate cheap, seed 3"),
    (
        lambda rows, folder: rows.pop(5),
        (
            "row 6: the prompt 'a scene 1' has 1 images of the candidate 'cheap', and 2 of another"
            " candidate. Add the missing images"
        ),
    ),
    (lambda rows, folder: rows[5].pop(), "row 7 has 3 cells and the header has 4"),
    (lambda rows, folder: rows.clear(), "there are no rows after the header"),
]


@pytest.mark.parametrize(("damage", "message"), [*BAD_IMAGES, *BAD_ROWS])
def test_invalid_input_is_refused_and_nothing_is_written(
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
            "lower_is_better is for imported scores only, but kind is images",
        ),
        (["bugdet=2"], "unknown key 'bugdet'"),
    ],
)
def test_invalid_settings_are_refused_before_anything_is_written(
    write, workspace, settings, message
):
    with pytest.raises(InputError, match=message):
        import_images.run(workspace, write(rows_of()), None, settings)
    assert not workspace.root.exists()


def test_missing_column_and_candidate_without_cost_are_refused(write, workspace, tmp_path):
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
    images_csv = write(rows)
    damage(rows, tmp_path)
    settings = [
        "label.on_error=skip",
        "generate.shard_images=2",
        "label.metrics=[level]",
        "metric=level",
    ]
    import_images.run(workspace, images_csv, None, settings)
    out = capsys.readouterr().out
    assert (
        "import-images: skipped: " in out
        and "15 images, 1 skipped. Run 'catimage label --set validate.complete_labels=false' to"
        " continue without the skipped images."
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


def test_candidate_without_a_valid_image_is_refused(write, workspace, tmp_path):
    images_csv = write(rows_of())
    for path in (tmp_path / "images").glob("expensive-*"):
        path.unlink()
    with pytest.raises(InputError, match="the candidate 'expensive' has no valid image"):
        import_images.run(workspace, images_csv, None, ["label.on_error=skip"])
    assert files_of(workspace.root) == {}

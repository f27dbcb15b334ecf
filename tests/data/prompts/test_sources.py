import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catimage.data.prompts.identity import normalise
from catimage.data.prompts.sources import read_source
from catimage.errors import InputError
from catimage.params import FileSource, SceneSource

PROMPTS = [
    "a red cat",
    'the sign says "HI, you"',
    "Ωμέγα 漢字 🙂",
    "tabs\tand  blanks",
    "line\u2028separator",
]
NORMALISED = [normalise(p) for p in PROMPTS]


def write_prompts(folder, suffix):
    """Write ``PROMPTS`` in a file format; return the source."""
    path = folder / f"prompts.{suffix}"
    frame = pd.DataFrame({"id": range(len(PROMPTS)), "prompt": PROMPTS})
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "tsv":
        path.write_text(
            "id\tprompt\n"
            + "".join(f"{i}\t{p.replace(chr(9), ' ')}\n" for i, p in enumerate(PROMPTS))
        )
    elif suffix == "txt":
        path.write_text("\n\n".join(PROMPTS) + "\n")
    elif suffix == "jsonl":
        path.write_text(
            "".join(json.dumps({"id": i, "prompt": p}) + "\n" for i, p in enumerate(PROMPTS))
        )
    elif suffix == "json":
        path.write_text(json.dumps([{"id": i, "prompt": p} for i, p in enumerate(PROMPTS)]))
    else:
        frame.to_parquet(path)
    return FileSource(path=path.name)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "jsonl", "json", "parquet"])
def test_every_file_format_gives_the_same_prompts(tmp_path, suffix):
    result = read_source(write_prompts(tmp_path, suffix), tmp_path, 100)
    assert result.prompts == NORMALISED
    assert (result.name, result.n_read, result.n_too_long) == (f"prompts.{suffix}", 5, 0)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "jsonl", "json", "parquet"])
def test_a_limit_selects_the_first_rows(tmp_path, suffix):
    source = write_prompts(tmp_path, suffix)
    assert (
        read_source(source.model_copy(update={"limit": 2}), tmp_path, 100).prompts == NORMALISED[:2]
    )


def test_duplicates_after_normalisation_and_long_prompts_are_omitted(tmp_path):
    (tmp_path / "p.txt").write_text("b  c\na\nb c \n" + "x" * 30 + "\r\n")
    result = read_source(FileSource(path="p.txt"), tmp_path, 20)
    assert (result.prompts, result.n_read, result.n_too_long) == (["b c", "a"], 4, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv: file not found"),
        ("none.parquet", None, "none.parquet: file not found"),
        ("p.csv", b"", "p.csv: the file is empty"),
        ("p.txt", b"\n \n", "p.txt: the file is empty"),
        ("p.txt", b"ok\n\xff\n", "row 2 is not UTF-8"),
        ("p.csv", b"promt,x\na,b\n", "did you mean 'promt'"),
        (
            "p.tsv",
            b"text\tx\na\tb\n",
            "the column 'prompt' is missing. Set 'column' of the source to one of the columns text",
        ),
        ("p.csv", b"prompt,x\nok,1\n ,2\n", "p.csv: row 3: the prompt is empty"),
        (
            "p.csv",
            b"prompt,x\n" + b"y" * 100_000 + b",1\n",
            "p.csv: row 2: the prompt has 100,000 characters",
        ),
        ("p.txt", b"ok\n\n" + b"y" * 200_000, "p.txt: row 3: the prompt has 200,000 characters"),
        ("p.jsonl", b'{"prompt": "a"}\n{"prompt": ""}\n', "p.jsonl: row 2: the prompt is empty"),
        ("p.jsonl", b'{"prompt": "a"}\nnot json\n', "p.jsonl: row 2 is not JSON"),
        ("p.jsonl", b"3\n", "p.jsonl: row 1 is neither an object nor a string"),
        ("p.json", b'["a", 3]', "p.json: row 2 is neither an object nor a string"),
        ("p.json", b'["a", ', "p.json: the content is not JSON"),
        ("p.json", b"[]", "p.json: the list is empty"),
        ("p.jsonl", b'{"promt": "a"}\n', "did you mean 'promt'"),
        ("p.jsonl", b'{"prompt": 3}\n', "row 1: 'prompt' is 3, not a string"),
        ("p.jsonl", b'{"prompt": "half \\ud83d"}\n', "row 1: the prompt contains a lone surrogate"),
        ("p.parquet", b"not parquet", "p.parquet: not a readable parquet file"),
        ("p.docx", b"x", "unknown file format. Convert the file to one of .csv, .tsv,"),
    ],
)
def test_an_invalid_file_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read_source(FileSource(path=name), tmp_path, 2000)
    assert message in str(error.value)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"prompt": ["a", None]}, "row 2: the prompt is empty"),
        ({"prompt": [1, 2]}, "the column 'prompt' has the type int64, not text"),
        ({"promt": ["a"]}, "did you mean 'promt'"),
        ({"prompt": pd.Series([], dtype="str")}, "the file is empty"),
    ],
)
def test_an_invalid_parquet_file_is_refused(tmp_path, frame, message):
    pd.DataFrame(frame).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError) as error:
        read_source(FileSource(path="p.parquet"), tmp_path, 2000)
    assert message in str(error.value)


def test_captions_are_distinct_and_a_higher_count_adds_captions(tmp_path):
    few, many = (read_source(SceneSource(count=n, seed=3), tmp_path, 2000) for n in (50, 120))
    assert len(set(many.prompts)) == len(many.prompts) == many.n_read == 120
    assert many.prompts[:50] == few.prompts
    assert read_source(SceneSource(count=50, seed=4), tmp_path, 2000).prompts != few.prompts


def test_a_count_above_the_number_of_captions_is_refused(tmp_path, monkeypatch):
    from catimage.data.prompts import sources

    monkeypatch.setattr(sources, "MAX_DRAWS", 1)
    with pytest.raises(
        InputError,
        match=r"gave [\d,]+ distinct captions, fewer than the count of 5,000\. Lower the count",
    ):
        read_source(SceneSource(count=5000), tmp_path, 2000)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.json", json.dumps(PROMPTS)),
        ("p.jsonl", json.dumps(PROMPTS)),
        ("p.jsonl", "".join(json.dumps(p) + "\n" for p in PROMPTS)),
    ],
)
def test_json_may_contain_texts_instead_of_objects(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_source(FileSource(path=name, column="text"), tmp_path, 100).prompts == NORMALISED


def test_quotation_marks_of_a_tsv_file_that_pandas_wrote_are_removed(tmp_path):
    prompts = [f'a sign that says "Number {i}"' for i in range(3)]
    frame = pd.DataFrame({"prompt": [*prompts, "tab\tand\nline"], "note": ["x", 'y"', "z", "w"]})
    frame.to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    source = FileSource(path="p.tsv")
    assert read_source(source, tmp_path, 100).prompts == [*prompts, "tab and line"]


@pytest.mark.parametrize(
    "column",
    [
        pd.array(PROMPTS, "category"),
        pa.array(PROMPTS, pa.string_view()),
        pa.array(PROMPTS, pa.large_string()),
        pa.array(PROMPTS).dictionary_encode(),
        pa.array(PROMPTS, pa.large_string()).dictionary_encode(),
    ],
)
def test_parquet_columns_of_any_type_of_text_are_read(tmp_path, column):
    if isinstance(column, pa.Array):
        pq.write_table(pa.table({"prompt": column}), tmp_path / "p.parquet")
    else:
        pd.DataFrame({"prompt": column}).to_parquet(tmp_path / "p.parquet")
    assert read_source(FileSource(path="p.parquet"), tmp_path, 100).prompts == NORMALISED


def test_a_path_may_have_the_separators_of_windows(tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "p.csv").write_bytes(b"prompt,id\r\na cat,1\r\na dog,2\r\n")
    result = read_source(FileSource(path="prompts\\p.csv"), tmp_path, 100)
    assert (result.name, result.prompts) == ("p.csv", ["a cat", "a dog"])

import json

import pandas as pd
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
CLEAN = [normalise(p) for p in PROMPTS]


def write(folder, suffix):
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
    else:
        frame.to_parquet(path)
    return FileSource(path=path.name)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_prompts(tmp_path, suffix):
    found = read_source(write(tmp_path, suffix), tmp_path, 100)
    assert found.prompts == CLEAN
    assert (found.name, found.read, found.too_long) == (f"prompts.{suffix}", 5, 0)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "jsonl", "parquet"])
def test_a_limit_takes_the_first_rows(tmp_path, suffix):
    source = write(tmp_path, suffix)
    assert read_source(source.model_copy(update={"limit": 2}), tmp_path, 100).prompts == CLEAN[:2]


def test_prompts_that_are_equal_once_normalised_are_one_and_long_ones_are_left_out(tmp_path):
    (tmp_path / "p.txt").write_text("b  c\na\nb c \n" + "x" * 30 + "\r\n")
    found = read_source(FileSource(path="p.txt"), tmp_path, 20)
    assert (found.prompts, found.read, found.too_long) == (["b c", "a"], 4, 1)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "none.csv: file not found"),
        ("none.parquet", None, "none.parquet is not there"),
        ("p.csv", b"", "p.csv: the file is empty"),
        ("p.txt", b"\n \n", "p.txt: the file is empty"),
        ("p.txt", b"ok\n\xff\n", "row 2 is not UTF-8"),
        ("p.csv", b"promt,x\na,b\n", "did you mean 'promt'"),
        ("p.tsv", b"text\tx\na\tb\n", "the column 'prompt' is missing. The columns of the file are text, x"),
        ("p.csv", b"prompt,x\nok,1\n ,2\n", "p.csv: row 3: the prompt is empty"),
        (
            "p.csv",
            b"prompt,x\n" + b"y" * 100_000 + b",1\n",
            "p.csv: row 2: the prompt has 100,000 characters",
        ),
        ("p.txt", b"ok\n\n" + b"y" * 200_000, "p.txt: row 3: the prompt has 200,000 characters"),
        ("p.jsonl", b'{"prompt": "a"}\n{"prompt": ""}\n', "p.jsonl: row 2: the prompt is empty"),
        ("p.jsonl", b'{"prompt": "a"}\nnot json\n', "p.jsonl: row 2 is not JSON"),
        ("p.jsonl", b'["a"]\n', "p.jsonl: row 1 lacks the key 'prompt'"),
        ("p.jsonl", b'{"promt": "a"}\n', "did you mean 'promt'"),
        ("p.jsonl", b'{"prompt": 3}\n', "row 1: 'prompt' is 3, not text"),
        ("p.jsonl", b'{"prompt": "half \\ud83d"}\n', "row 1: the prompt holds half of a character"),
        ("p.parquet", b"not parquet", "p.parquet is not a readable parquet file"),
        ("p.docx", b"x", "prompts are read from .csv, .tsv, .txt, .jsonl, .parquet files"),
    ],
)
def test_a_file_that_is_not_in_order_is_refused_in_words(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read_source(FileSource(path=name), tmp_path, 2000)
    assert said in str(error.value)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"prompt": ["a", None]}, "row 2: the prompt is empty"),
        ({"prompt": [1, 2]}, "the column 'prompt' holds int64, not text"),
        ({"promt": ["a"]}, "did you mean 'promt'"),
        ({"prompt": pd.Series([], dtype="str")}, "is empty"),
    ],
)
def test_a_parquet_file_that_is_not_in_order_is_refused_in_words(tmp_path, frame, said):
    pd.DataFrame(frame).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError) as error:
        read_source(FileSource(path="p.parquet"), tmp_path, 2000)
    assert said in str(error.value)


def test_scenes_are_distinct_and_more_of_them_add_to_those_before(tmp_path):
    few, many = (read_source(SceneSource(count=n, seed=3), tmp_path, 2000) for n in (50, 120))
    assert len(set(many.prompts)) == len(many.prompts) == many.read == 120
    assert many.prompts[:50] == few.prompts
    assert read_source(SceneSource(count=50, seed=4), tmp_path, 2000).prompts != few.prompts


def test_a_grammar_asked_for_more_than_it_has_says_so(tmp_path, monkeypatch):
    from catimage.data.prompts import sources

    monkeypatch.setattr(sources, "DRAWS", 1)
    with pytest.raises(
        InputError, match=r"gave [\d,]+ captions of the 5,000 asked for: lower count"
    ):
        read_source(SceneSource(count=5000), tmp_path, 2000)

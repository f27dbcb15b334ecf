import numpy as np
import pytest

from catimage.data.prompts.diversity import nearest_earlier
from catimage.data.prompts.identity import prompt_id, split_of
from catimage.data.schema import PROMPTS, SPLITS, read_table
from catimage.encoders.embeddings import Embeddings
from catimage.encoders.loading import load_encoder
from catimage.errors import InputError
from catimage.params import parse_params
from catimage.stages import sample
from catimage.workspace import Workspace
from tests.miniature import save_clip_folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return f"local-dir:{save_clip_folder(tmp_path_factory.mktemp('clip'))}"


def params(clip, sources, threshold=0.9, **more):
    """Use a threshold that keeps some prompts: embeddings of an untrained CLIP are similar."""
    return parse_params(
        {
            "encoder": {"model": clip},
            "sample": {"sources": sources, "max_similarity": threshold, **more},
        },
        "here",
    )


SCENES = {"kind": "scenes", "count": 150}


def read_output(workspace, given):
    return read_table(workspace.prompts, PROMPTS, "sample"), Embeddings.load(
        workspace.embeddings(given.encoder.name)
    )


def test_prompts_and_their_embeddings_are_written(clip, tmp_path, capsys):
    workspace, given = Workspace(tmp_path), params(clip, [SCENES])
    sample.run(workspace, given)
    prompts, embeddings = read_output(workspace, given)
    assert 10 <= len(prompts) < 150
    assert (
        prompts["prompt_id"].tolist()
        == [prompt_id(p) for p in prompts["prompt"]]
        == embeddings.prompt_ids
    )
    assert prompts["split"].tolist() == [split_of(i) for i in prompts["prompt_id"]]
    assert set(prompts["split"]) == set(SPLITS)
    assert set(prompts["source"]) == {"scenes"}
    assert nearest_earlier(embeddings.pooled)[0].max() < 0.9 + 1e-6
    again = load_encoder(given.encoder).encode(prompts["prompt"].tolist())
    np.testing.assert_allclose(embeddings.pooled, again.pooled, atol=1e-6)
    np.testing.assert_array_equal(embeddings.offsets, again.offsets)
    assert f"scenes: 150 read, {len(prompts)} kept" in capsys.readouterr().out


def test_the_same_parameters_give_the_same_files(clip, tmp_path):
    given = params(clip, [SCENES])
    for name in ("one", "two"):
        sample.run(Workspace(tmp_path / name), given)
    one, two = (
        {
            p.relative_to(tmp_path / n): p.read_bytes()
            for p in (tmp_path / n).rglob("*")
            if p.is_file()
        }
        for n in ("one", "two")
    )
    assert len(one) == 3
    assert one == two


def test_a_prompt_keeps_its_split_when_prompts_are_added(clip, tmp_path):
    split = []
    for count in (100, 150):
        workspace = Workspace(tmp_path / str(count))
        sample.run(workspace, params(clip, [{**SCENES, "count": count}]))
        split.append(
            dict(
                read_table(workspace.prompts, PROMPTS, "sample")[["prompt_id", "split"]].itertuples(
                    index=False
                )
            )
        )
    assert split[0].items() <= split[1].items()
    assert len(split[0]) < len(split[1])


def test_sources_are_merged_in_order_and_duplicates_belong_to_the_first(clip, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text(
        "".join(f"scene of my own number {i}\n" for i in range(60))
        + "a large red circle on a plain white background\n"
    )
    (tmp_path / "more.csv").write_text(
        "text,x\nscene  of my own number 7,1\na cat,2\n" + "red " * 60 + ",3\n"
    )
    sources = [
        {"kind": "file", "path": "mine.txt", "limit": 61},
        {"kind": "file", "path": "more.csv", "column": "text"},
    ]
    workspace, given = (
        Workspace(tmp_path),
        params(clip, sources, threshold=1, max_prompt_length=260),
    )
    sample.run(workspace, given)
    prompts, embeddings = read_output(workspace, given)
    assert len(prompts) == 63
    assert prompts["source"].tolist() == ["mine.txt"] * 61 + ["more.csv"] * 2
    assert embeddings.cut.tolist() == [False] * 62 + [True]
    output = capsys.readouterr().out
    assert "more.csv: 3 read, 2 kept" in output
    assert "1 truncated to the context length of the encoder" in output
    sample.run(workspace, params(clip, sources, threshold=1, max_prompt_length=40))
    assert "mine.txt: 61 read, 1 too long, 60 kept" in capsys.readouterr().out


def test_embeddings_of_an_earlier_encoder_are_deleted(clip, tmp_path):
    workspace, given = Workspace(tmp_path), params(clip, [SCENES])
    old = workspace.embeddings("earlier")
    old.mkdir(parents=True)
    sample.run(workspace, given)
    assert [p.name for p in old.parent.iterdir()] == [given.encoder.name]


@pytest.mark.parametrize(
    ("sources", "more", "message"),
    [
        ([{"kind": "scenes", "count": 9}], {"threshold": 1}, "9 prompts are kept, fewer than 10"),
        (
            [{"kind": "scenes", "count": 10}],
            {"threshold": 1},
            "none of the 10 prompts is in the test split",
        ),
        (
            [SCENES],
            {"max_prompt_length": 3},
            "every prompt is longer than sample.max_prompt_length",
        ),
        ([{"kind": "file", "path": "none.csv"}], {}, "none.csv: file not found"),
    ],
)
def test_bad_input_is_refused_and_earlier_files_are_kept(clip, tmp_path, sources, more, message):
    workspace = Workspace(tmp_path)
    sample.run(workspace, params(clip, [SCENES]))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=message):
        sample.run(workspace, params(clip, sources, **more))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before

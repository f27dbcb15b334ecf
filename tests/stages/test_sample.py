import numpy as np
import pytest

from catimage.data.prompts.diversity import nearest_earlier
from catimage.data.prompts.identity import prompt_id, splits_of
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


def params(clip, sources, threshold=0.9, **settings):
    """Return parameters with a high threshold, as embeddings of an untrained CLIP are similar."""
    return parse_params(
        {
            "encoder": {"model": clip},
            "sample": {"sources": sources, "max_similarity": threshold, **settings},
        },
        "here",
    )


SCENES = {"kind": "scenes", "count": 150}


def read_output(workspace, parameters):
    """Return the prompts and the embeddings that the stage has written."""
    return read_table(workspace.prompts, PROMPTS, "sample"), Embeddings.load(
        workspace.embeddings(parameters.encoder.name)
    )


def test_prompts_and_their_embeddings_are_written(clip, tmp_path, capsys):
    workspace, parameters = Workspace(tmp_path), params(clip, [SCENES])
    sample.run(workspace, parameters)
    prompts, embeddings = read_output(workspace, parameters)
    assert 10 <= len(prompts) < 150
    assert (
        prompts["prompt_id"].tolist()
        == [prompt_id(p) for p in prompts["prompt"]]
        == embeddings.prompt_ids
    )
    assert prompts["split"].tolist() == splits_of(prompts["prompt"], 0.1)
    assert set(prompts["split"]) == set(SPLITS)
    assert set(prompts["source"]) == {"scenes"}
    assert nearest_earlier(embeddings.pooled)[0].max() < 0.9 + 1e-6
    expected = load_encoder(parameters.encoder).encode(prompts["prompt"].tolist())
    np.testing.assert_allclose(embeddings.pooled, expected.pooled, atol=1e-6)
    np.testing.assert_array_equal(embeddings.offsets, expected.offsets)
    assert f"scenes: 150 read, {len(prompts)} kept" in capsys.readouterr().out


def test_the_same_parameters_give_the_same_files(clip, tmp_path):
    parameters = params(clip, [SCENES])
    for name in ("one", "two"):
        sample.run(Workspace(tmp_path / name), parameters)
    first, second = (
        {
            p.relative_to(tmp_path / n): p.read_bytes()
            for p in (tmp_path / n / "data").rglob("*")
            if p.is_file()
        }
        for n in ("one", "two")
    )
    assert len(first) == 3
    assert first == second


def test_a_prompt_keeps_its_split_when_prompts_are_added(clip, tmp_path):
    splits = []
    for count in (100, 150):
        workspace = Workspace(tmp_path / str(count))
        sample.run(workspace, params(clip, [{**SCENES, "count": count}]))
        splits.append(
            dict(
                read_table(workspace.prompts, PROMPTS, "sample")[["prompt_id", "split"]].itertuples(
                    index=False
                )
            )
        )
    assert splits[0].items() <= splits[1].items()
    assert len(splits[0]) < len(splits[1])


def test_sources_are_merged_in_order_and_duplicates_belong_to_the_first_source(
    clip, tmp_path, capsys
):
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
    workspace, parameters = (
        Workspace(tmp_path),
        params(clip, sources, threshold=1, max_prompt_length=260),
    )
    sample.run(workspace, parameters)
    prompts, embeddings = read_output(workspace, parameters)
    assert len(prompts) == 63
    assert prompts["source"].tolist() == ["mine.txt"] * 61 + ["more.csv"] * 2
    assert embeddings.cut.tolist() == [False] * 62 + [True]
    output = capsys.readouterr().out
    assert "more.csv: 3 read, 2 kept" in output
    assert "1 truncated to the context length of the encoder" in output
    sample.run(workspace, params(clip, sources, threshold=1, max_prompt_length=40))
    assert "mine.txt: 61 read, 1 too long, 60 kept" in capsys.readouterr().out


def test_embeddings_of_an_earlier_encoder_are_deleted(clip, tmp_path):
    workspace, parameters = Workspace(tmp_path), params(clip, [SCENES])
    old = workspace.embeddings("earlier")
    old.mkdir(parents=True)
    sample.run(workspace, parameters)
    assert [p.name for p in old.parent.iterdir()] == [parameters.encoder.name]


@pytest.mark.parametrize(
    ("sources", "settings", "message"),
    [
        ([{"kind": "scenes", "count": 9}], {"threshold": 1}, "9 prompts are kept, fewer than 10"),
        (
            [{"kind": "scenes", "count": 10}],
            {"threshold": 1},
            "none of the 10 prompts is in the gate split.*set sample.gate_share to 0",
        ),
        (
            [SCENES],
            {"max_prompt_length": 3},
            "every prompt is longer than sample.max_prompt_length",
        ),
        ([{"kind": "file", "path": "none.csv"}], {}, "none.csv: file not found"),
    ],
)
def test_invalid_input_is_refused_and_earlier_files_are_kept(
    clip, tmp_path, sources, settings, message
):
    workspace = Workspace(tmp_path)
    sample.run(workspace, params(clip, [SCENES]))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=message):
        sample.run(workspace, params(clip, sources, **settings))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before

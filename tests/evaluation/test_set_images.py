import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import IMAGES, PROMPTS
from catimage.data.shards.manifest import ShardEntry, write_manifest
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import encode_image, write_shard
from catimage.errors import InputError
from catimage.evaluation.budget import Operating
from catimage.evaluation.methods import Pool
from catimage.evaluation.set_images import sets_document
from catimage.evaluation.sets import sentences
from catimage.params import parse_params
from catimage.routing.randomized import RoutingRule
from catimage.scenes.parse import parse
from catimage.scenes.render import render
from catimage.scenes.vocabulary import COLOURS, SHAPES
from catimage.workspace import Workspace
from tests.evaluation.worlds import operating

NAMES = ["noisy", "true"]
COST = np.array([1.0, 4.0])


def captions(n):
    pairs = [(a, b) for a in COLOURS for b in COLOURS if a < b]
    return [
        f"two {a} {SHAPES[i % 6 + 1]}s on a plain {b} background"
        for i, (a, b) in enumerate(pairs[:n])
    ]


def frame(texts):
    return pd.DataFrame(
        [(prompt_id(t), t, "made up", "test") for t in texts], columns=PROMPTS.names
    )


def picture(candidate, text, seed):
    rng = np.random.default_rng([seed, *text.encode()])
    image = render(parse(text), rng).astype(float)
    return (
        image if candidate == "true" else 0.4 * image + 0.6 * rng.uniform(0, 255, image.shape)
    ).astype(np.uint8)


def save_images(workspace, test, seeds=(0, 1), spoil=None, lacking=()):
    workspace.images.mkdir(parents=True, exist_ok=True)
    entries = []
    for name in NAMES:
        prompts = tuple(
            p
            for p in zip(test["prompt_id"], test["prompt"], strict=True)
            if (name, p[1]) not in lacking
        )
        plan = ShardPlan(name, {"kind": "painted"}, 1, prompts, tuple(seeds), 4)
        rows = [
            (i, name, s, spoil or encode_image(picture(name, t, s)), 0.1)
            for i, t in prompts
            for s in seeds
        ]
        table = pa.Table.from_pylist(
            [dict(zip(IMAGES.names, row, strict=True)) for row in rows], schema=IMAGES
        )
        entries.append(
            ShardEntry(plan.name, name, len(rows), write_shard(workspace.images, plan, table))
        )
    write_manifest(workspace.images, entries)


def documents(lam=1e-9):
    """What the rest of evaluate says: at no weight on cost the true candidate is taken, at much the
    noisy one.
    """
    rows = [
        {"candidate": "noisy", "selected_lambda": 1.0},
        {"candidate": "true", "selected_lambda": 1e-9},
    ]
    budget = {"estimator": "ridge", "lambda": lam, "best_fixed": {"candidate": "noisy"}}
    return {"budget": budget, "methods": {"ridge": {"by_candidate": rows}}}


def judged(workspace, test, lam=1e-9, own=True, **evaluate):
    params = parse_params(
        {
            "evaluate": {"set_metrics": ["fid_tiny", "kid_tiny", "is_tiny"], **evaluate},
            "label": {"device": "cpu"},
        },
        "p",
    )
    point = operating("ridge", 9.0, lam, np.tile([0.2, 0.9], (len(test), 1)))
    return sets_document(
        workspace, params, own, test, Pool(NAMES, COST, "seconds"), point, documents(lam)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    workspace, test = Workspace(tmp_path_factory.mktemp("sets")), frame(captions(24))
    save_images(workspace, test)
    return workspace, test


@pytest.fixture(scope="module")
def document(made):
    return judged(*made)


def test_the_true_images_are_a_better_set_and_routed_sets_lie_where_they_should(document):
    assert document["n_prompts"] == 24 and document["n_images"] == 48 and not document["left_out"]
    for name, metric in document["metrics"].items():
        noisy, true = metric["by_candidate"]
        sign = 1 if name == "is_tiny" else -1
        assert (sign < 0 and true["value"] < noisy["value"]) or (
            sign > 0 and 1 <= true["value"] <= 100
        ), name
        assert (
            noisy["selected"]["value"] == noisy["value"]
            and noisy["selected_cost"] == 1
            and noisy["gain"] == 0
        )
        assert noisy["interval"] == [0, 0]
        assert (
            metric["budget"]["value"] == true["value"] == true["selected"]["value"]
            and metric["budget"]["cost"] == 4
        )
        rival = metric["budget"]["best_fixed"]
        assert rival["candidate"] == "noisy" and rival["gain"] == pytest.approx(
            sign * (true["value"] - noisy["value"])
        )
        assert rival["interval"][0] < rival["gain"] < rival["interval"][1] and true["se"] > 0
    for name in ("fid_tiny", "kid_tiny"):
        metric = document["metrics"][name]
        assert metric["budget"]["best_fixed"]["interval"][0] > 0
        assert metric["real"]["value"] == pytest.approx(
            metric["budget"]["value"], abs=5 * metric["real"]["se"]
        )


def test_it_is_said_in_sentences(document):
    said = sentences(document)
    assert (
        said[0].startswith("fid_tiny (lower is better) of the routed set of 48 images: ")
        and "noisy's" in said[0]
        and "better" in said[0]
    )
    assert said[2].startswith("is_tiny (higher is better)") and sentences(None) == []


def test_it_is_the_same_again_and_a_set_of_both_candidates_lies_between(made, document):
    workspace, test = made
    again = judged(workspace, test, set_metrics=["kid_tiny"])
    assert again["metrics"]["kid_tiny"] == document["metrics"]["kid_tiny"]
    params = parse_params(
        {"evaluate": {"set_metrics": ["kid_tiny"]}, "label": {"device": "cpu"}}, "p"
    )
    predicted = np.where((np.arange(24) % 2)[:, None], [0.2, 0.9], [0.9, 0.2])
    point = operating("ridge", 9.0, 1e-9, predicted)
    mixed = sets_document(
        workspace, params, True, test, Pool(NAMES, COST, "seconds"), point, documents()
    )
    noisy, true = document["metrics"]["kid_tiny"]["by_candidate"]
    assert true["value"] < mixed["metrics"]["kid_tiny"]["budget"]["value"] < noisy["value"]
    assert mixed["metrics"]["kid_tiny"]["budget"]["cost"] == 2.5


def test_where_two_lambdas_are_mixed_each_prompts_image_is_of_the_candidate_that_it_is_served(
    made, document
):
    workspace, test = made
    params = parse_params(
        {"evaluate": {"set_metrics": ["kid_tiny"]}, "label": {"device": "cpu"}}, "p"
    )
    predicted, draws = np.tile([0.2, 0.9], (24, 1)), np.repeat([0.1, 0.9], 12)
    point = Operating("ridge", 2.0, RoutingRule.from_parts((0.3, 1e-9), (0.7, 1.0)), predicted, predicted, draws)
    found = sets_document(
        workspace, params, True, test, Pool(NAMES, COST, "seconds"), point, documents(1.0)
    )
    budget = found["metrics"]["kid_tiny"]["budget"]
    noisy, true = document["metrics"]["kid_tiny"]["by_candidate"]
    assert budget["cost"] == 2.5 and true["value"] < budget["value"] < noisy["value"]


def test_a_folder_of_real_images(made, document):
    workspace, test = made
    folder = workspace.root / "real" / "more"
    folder.mkdir(parents=True)
    for i, text in enumerate(test["prompt"]):
        Image.fromarray(picture("true", text, 7)).save(folder / f"{i}.png")
    found = judged(workspace, test, reference_images="real", set_metrics=["fid_tiny", "is_tiny"])
    assert found["references"] == "real" and found["metrics"]["fid_tiny"]["real"] is None
    noisy, true = found["metrics"]["fid_tiny"]["by_candidate"]
    assert true["value"] < noisy["value"]
    assert found["metrics"]["is_tiny"]["budget"] == document["metrics"]["is_tiny"]["budget"]
    (folder / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png : not a readable image"):
        judged(workspace, test, reference_images="real")
    with pytest.raises(InputError, match="no such folder"):
        judged(workspace, test, reference_images="elsewhere")


def test_what_cannot_be_judged_is_left_out_with_a_reason(made, tmp_path):
    workspace, test = made
    own = judged(workspace, test, own=False)
    assert (
        own["metrics"] == {}
        and "4 are needed at least" in own["left_out"][0]
        and own["left_out"][0].startswith("fid_tiny, kid_tiny")
    )
    assert judged(Workspace(tmp_path), test)["left_out"] == own["left_out"]
    assert judged(workspace, test, set_metrics=[]) is None
    prose = frame([f"a cat number {i}" for i in range(5)])
    workspace = Workspace(tmp_path / "prose")
    rows = [
        (i, name, 0, encode_image(np.full((8, 8, 3), 9, np.uint8)), 0.1)
        for name in NAMES
        for i in prose["prompt_id"]
    ]
    workspace.images.mkdir(parents=True)
    entries = []
    for name in NAMES:
        plan = ShardPlan(
            name, {}, 1, tuple(zip(prose["prompt_id"], prose["prompt"], strict=True)), (0,), 4
        )
        table = pa.Table.from_pylist(
            [dict(zip(IMAGES.names, row, strict=True)) for row in rows if row[1] == name],
            schema=IMAGES,
        )
        entries.append(ShardEntry(plan.name, name, 5, write_shard(workspace.images, plan, table)))
    write_manifest(workspace.images, entries)
    found = judged(workspace, prose, set_metrics=["fid", "kid_tiny"])
    assert found["metrics"] == {} and any(
        "'a cat number 0' is none" in reason for reason in found["left_out"]
    )
    assert any(
        reason.startswith("fid: no real images") and "reference_images" in reason
        for reason in found["left_out"]
    )


def test_prompts_without_all_of_their_images_are_left_out(tmp_path):
    workspace, test = Workspace(tmp_path), frame(captions(8))
    save_images(workspace, test, lacking={("true", captions(8)[3])})
    found = judged(workspace, test, set_metrics=["kid_tiny"])
    assert found["n_prompts"] == 7 and found["n_images"] == 14


def test_bad_input_is_named(tmp_path):
    workspace, test = Workspace(tmp_path), frame(captions(5))
    save_images(workspace, test, spoil=b"no image")
    with pytest.raises(InputError, match=r"noisy of prompt \w+ at seed 0 cannot be decoded"):
        judged(workspace, test)
    for path in workspace.images.glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="missing or damaged"):
        judged(workspace, test)
    with pytest.raises(InputError, match=r"no 'fid_tiney' \(did you mean 'fid_tiny'\?\)"):
        judged(workspace, test, set_metrics=["fid_tiney"])

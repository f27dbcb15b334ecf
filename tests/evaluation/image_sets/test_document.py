import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from catimage.data.dataset import Candidates
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import IMAGES
from catimage.data.shards.manifest import ShardEntry, write_manifest
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import encode_image, write_shard
from catimage.errors import InputError
from catimage.evaluation.image_sets.document import ImageSource, image_sets_document
from catimage.evaluation.image_sets.text import image_set_lines
from catimage.evaluation.samples import PromptResults
from catimage.metrics.metric import MetricContext
from catimage.params import EvaluateParams
from catimage.routing.policy import choose
from catimage.scenes.parse import parse
from catimage.scenes.render import render
from catimage.scenes.vocabulary import COLOURS, SHAPES

NAMES = ["noisy", "true"]
COST = np.array([1.0, 4.0])
METRICS = ["fid_tiny", "kid_tiny", "is_tiny"]


def captions(n):
    """Return n different captions of scenes with two shapes."""
    pairs = [(a, b) for a in COLOURS for b in COLOURS if a < b]
    return [
        f"two {a} {SHAPES[i % 6 + 1]}s on a plain {b} background"
        for i, (a, b) in enumerate(pairs[:n])
    ]


def results_of(texts, predicted=(0.2, 0.9)):
    """Return the results of test prompts that all have the same predictions."""
    values = np.tile(predicted, (len(texts), 1))
    candidates = Candidates(NAMES, COST, "seconds")
    return PromptResults([prompt_id(t) for t in texts], texts, values, values, candidates)


def scene_image(candidate, text, seed):
    """Render the scene of a caption; the candidate ``noisy`` adds noise to the image."""
    rng = np.random.default_rng([seed, *text.encode()])
    image = render(parse(text), rng).astype(float)
    if candidate == "noisy":
        image = 0.4 * image + 0.6 * rng.uniform(0, 255, image.shape)
    return image.astype(np.uint8)


def encoded_scene(candidate, text, seed):
    return encode_image(scene_image(candidate, text, seed))


def save_images(folder, texts, seeds=(0, 1), encoded=encoded_scene, missing=(), first_seed=None):
    """Write one shard per candidate, without the (candidate, prompt) pairs in ``missing``.

    With ``first_seed``, a function of candidate and prompt, its result is added to the seeds of the
    images, but not to those that the images are rendered with.
    """
    first = first_seed or (lambda name, text: 0)
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name in NAMES:
        prompts = tuple((prompt_id(t), t) for t in texts if (name, t) not in missing)
        plan = ShardPlan(name, {"kind": "painted"}, 1, prompts, tuple(seeds), 4)
        rows = [
            (i, name, first(name, t) + s, encoded(name, t, s), 0.1)
            for i, t in prompts
            for s in seeds
        ]
        records = [dict(zip(IMAGES.names, row, strict=True)) for row in rows]
        digest = write_shard(folder, plan, pa.Table.from_pylist(records, schema=IMAGES))
        entries.append(ShardEntry(plan.name, name, len(rows), digest))
    write_manifest(folder, entries)


def core_document(lam=1e-9):
    """Return the keys of ``metrics.json`` that the document of image sets depends on.

    With a lambda of 1, the router selects ``noisy``; with a lambda of 1e-9, ``true``.
    """
    rows = [
        {"candidate": "noisy", "selected_lambda": 1.0},
        {"candidate": "true", "selected_lambda": 1e-9},
    ]
    budget = {"estimator": "ridge", "lambda": lam, "best_fixed": {"candidate": "noisy"}}
    return {"budget": budget, "methods": {"ridge": {"by_candidate": rows}}}


def document_of(root, results, with_images=True, picked=None, lam=1e-9, **settings):
    """Return the document of the images in ``root / "images"``, or without images."""
    if picked is None:
        picked = choose(results.predicted, COST, lam)
    source = ImageSource(
        root / "images" if with_images else None, root, MetricContext(device="cpu")
    )
    settings = EvaluateParams(**{"set_metrics": METRICS} | settings)
    return image_sets_document(results, picked, settings, source, core_document(lam))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with the images of 24 captions at two seeds."""
    root = tmp_path_factory.mktemp("sets")
    save_images(root / "images", captions(24))
    return root


@pytest.fixture(scope="module")
def document(root):
    return document_of(root, results_of(captions(24)))


def test_images_with_seeds_of_their_own_give_the_same_document(document, tmp_path):
    def first_seed(name, text):
        return 2 * captions(24).index(text) + 1000 * NAMES.index(name)

    save_images(tmp_path / "images", captions(24), first_seed=first_seed)
    assert document_of(tmp_path, results_of(captions(24))) == document


def test_true_images_are_a_better_set_than_noisy_ones(document):
    assert document["n_prompts"] == 24
    assert document["n_images"] == 48
    assert not document["left_out"]
    for name, metric in document["metrics"].items():
        noisy, true = metric["by_candidate"]
        sign = 1 if name == "is_tiny" else -1
        if sign < 0:
            assert true["value"] < noisy["value"]
        else:
            assert 1 <= true["value"] <= 100
        assert noisy["selected"]["value"] == noisy["value"]
        assert noisy["selected_cost"] == 1
        assert noisy["gain"] == 0
        assert noisy["interval"] == [0, 0]
        assert metric["budget"]["value"] == true["value"] == true["selected"]["value"]
        assert metric["budget"]["cost"] == 4
        fixed = metric["budget"]["best_fixed"]
        assert fixed["candidate"] == "noisy"
        assert fixed["gain"] == pytest.approx(sign * (true["value"] - noisy["value"]))
        assert fixed["interval"][0] < fixed["gain"] < fixed["interval"][1]
        assert true["se"] > 0
    for name in ("fid_tiny", "kid_tiny"):
        budget, real = (document["metrics"][name][key] for key in ("budget", "real"))
        assert budget["best_fixed"]["interval"][0] > 0
        assert real["value"] == pytest.approx(budget["value"], abs=5 * real["se"])


def test_each_metric_is_described_in_a_sentence(document):
    lines = image_set_lines(document)
    assert lines[0].startswith("fid_tiny (lower is better) of the routed set of 48 images: ")
    assert "the set of noisy: " in lines[0]
    assert "better" in lines[0]
    assert lines[2].startswith("is_tiny (higher is better)")
    assert image_set_lines(None) == []


def test_statistics_are_reproducible_and_a_mixed_set_lies_between_the_fixed_sets(root, document):
    results = results_of(captions(24))
    again = document_of(root, results, set_metrics=["kid_tiny"])
    assert again["metrics"]["kid_tiny"] == document["metrics"]["kid_tiny"]
    results.predicted[::2] = [0.9, 0.2]
    mixed = document_of(root, results, set_metrics=["kid_tiny"])
    budget = mixed["metrics"]["kid_tiny"]["budget"]
    noisy, true = document["metrics"]["kid_tiny"]["by_candidate"]
    assert true["value"] < budget["value"] < noisy["value"]
    assert budget["cost"] == 2.5


def test_the_set_of_the_router_has_the_images_that_it_serves(root, document):
    picked = np.repeat([1, 0], 12)
    served = document_of(
        root, results_of(captions(24)), picked=picked, lam=1.0, set_metrics=["kid_tiny"]
    )
    budget = served["metrics"]["kid_tiny"]["budget"]
    noisy, true = document["metrics"]["kid_tiny"]["by_candidate"]
    assert budget["cost"] == 2.5
    assert true["value"] < budget["value"] < noisy["value"]


def test_real_images_are_read_from_a_folder(root, document):
    results = results_of(captions(24))
    folder = root / "real" / "more"
    folder.mkdir(parents=True)
    for i, text in enumerate(results.texts):
        Image.fromarray(scene_image("true", text, 7)).save(folder / f"{i}.png")
    from_folder = document_of(
        root, results, reference_images="real", set_metrics=["fid_tiny", "is_tiny"]
    )
    assert from_folder["references"] == "real"
    assert from_folder["metrics"]["fid_tiny"]["real"] is None
    noisy, true = from_folder["metrics"]["fid_tiny"]["by_candidate"]
    assert true["value"] < noisy["value"]
    assert from_folder["metrics"]["is_tiny"]["budget"] == document["metrics"]["is_tiny"]["budget"]
    (folder / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png: not a readable image"):
        document_of(root, results, reference_images="real")
    with pytest.raises(InputError, match=r"the folder .* is not found"):
        document_of(root, results, reference_images="elsewhere")


def test_metrics_that_do_not_apply_are_left_out_with_a_reason(root, tmp_path):
    results = results_of(captions(24))
    external = document_of(root, results, with_images=False)
    assert external["metrics"] == {}
    assert "at least 4 are needed" in external["left_out"][0]
    assert external["left_out"][0].startswith("fid_tiny, kid_tiny")
    assert document_of(root, results, set_metrics=[]) is None
    prose = results_of([f"a cat number {i}" for i in range(5)])
    grey = encode_image(np.full((8, 8, 3), 9, np.uint8))
    save_images(tmp_path / "images", prose.texts, (0,), lambda *_: grey)
    without_metrics = document_of(tmp_path, prose, set_metrics=["fid", "kid_tiny"])
    assert without_metrics["metrics"] == {}
    assert any(
        "'a cat number 0' is not such a caption" in reason for reason in without_metrics["left_out"]
    )
    assert any(
        reason.startswith("fid: there are no real images") and "reference_images" in reason
        for reason in without_metrics["left_out"]
    )


def test_prompts_with_a_missing_image_are_left_out(tmp_path):
    texts = captions(8)
    save_images(tmp_path / "images", texts, missing={("true", texts[3])})
    document = document_of(tmp_path, results_of(texts), set_metrics=["kid_tiny"])
    assert document["n_prompts"] == 7
    assert document["n_images"] == 14


def test_damaged_images_and_unknown_metrics_are_refused(tmp_path):
    results = results_of(captions(5))
    save_images(tmp_path / "images", results.texts, encoded=lambda *_: b"no image")
    with pytest.raises(InputError, match=r"noisy of prompt \w+ at seed 0 cannot be decoded"):
        document_of(tmp_path, results)
    for path in (tmp_path / "images").glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="the file is damaged"):
        document_of(tmp_path, results)
    with pytest.raises(InputError, match=r"'fid_tiney'.*[Dd]id you mean 'fid_tiny'"):
        document_of(tmp_path, results, set_metrics=["fid_tiney"])

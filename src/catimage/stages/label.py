"""Stage label: compute the scores of every image by the metrics in ``label.metrics``."""

from __future__ import annotations

from catimage.data.provenance import SCORES_FILE, Provenance
from catimage.data.schema import PROMPTS, SCORES, read_table, write_frames
from catimage.data.shards.lock import write_lock
from catimage.data.shards.manifest import (
    check_candidates,
    check_prompts,
    read_manifest,
    refused_images,
)
from catimage.errors import InputError
from catimage.metrics.labelling import Labeller, ShardFolder
from catimage.metrics.metric import MetricContext
from catimage.params import Params
from catimage.pool.candidate_images import candidate_images
from catimage.workspace import Workspace


def run(workspace: Workspace, params: Params) -> None:
    """Write ``data/scores.parquet``, sorted by metric, candidate, prompt and seed.

    Scores are cached in ``data/.labels``, so that only new images are scored. If a metric has
    changed, all images are scored again by this metric. The scores of composites are computed
    from the scores of their terms.

    Raises:
        InputError: images are missing, damaged or of other prompts, a metric is unknown or fails, a
            required reference image is missing, the scores were imported, or another process is
            labelling this workspace.
    """
    if params.imported is not None and params.imported.kind == "scores":
        raise InputError(
            f"{workspace.scores}: the scores were imported, so there are no images to label. Run"
            " 'catimage validate' next."
        )
    inputs = Provenance(workspace).inputs(SCORES_FILE)
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    texts = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    images = candidate_images(workspace, params.pool, params.imported)
    entries = read_manifest(workspace.images)
    complete = params.validation.complete_labels
    with write_lock(workspace.scores):
        check_candidates(workspace.images, entries, images.candidates, images.command)
        check_prompts(workspace.images, entries, list(texts), complete, images.command)
        labeller = Labeller(
            ShardFolder(workspace.images, entries, texts, images),
            workspace.scores.with_name(".labels"),
            params.label,
            MetricContext(params.encoder, params.label.device, params.label.weights),
        )
        scores = labeller.score(entries)
        refused = refused_images(workspace.images, entries)
        if len(refused):
            print(f"label: {len(refused)} images were refused and have no scores", flush=True)
        write_frames(labeller.tables(scores), workspace.scores, SCORES, inputs, refused)
        labeller.delete_stale_scores(entries)

"""Files, revisions and definitions of weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from catimage.commands.pool_check import check_rows
from catimage.errors import InputError
from catimage.pool.generators.diffusion.classes import diffusers_class
from catimage.pool.generators.diffusion.weights import config_folder
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool
from tests.miniature import pool_tree


def _pool(folder: Path, **changes: object) -> Pool:
    tree = pool_tree("sd")
    tree["generators"]["mini"].update(changes)  # type: ignore[index]
    (folder / "pool.yaml").write_text(yaml.safe_dump(tree))
    return load_pool(str(folder / "pool.yaml"))


def _definition(pool: Pool) -> dict[str, object]:
    spec = pool.generators["mini"]
    return spec.definition(pool.candidates[0], kind_of(spec, pool.folder).identity())


def test_a_missing_folder_is_reported_with_file_and_key(tmp_path: Path):
    pool = _pool(tmp_path)
    with pytest.raises(
        InputError,
        match=(
            r"pool\.yaml: generators\.mini\.weights: the folder .*sd is not found\. Put the weights"
            r" there or"
        ),
    ):
        _definition(pool)


def test_a_definition_depends_on_weights_and_settings_but_not_on_paths(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name / "sd").mkdir(parents=True)
    a, b = _pool(tmp_path / "a"), _pool(tmp_path / "b")
    assert _definition(a) == _definition(b)
    (b.folder / "sd" / "README.md").write_text("not part of the weights")
    assert _definition(b) == _definition(a)
    (b.folder / "sd" / "model.safetensors").write_bytes(b"other weights")
    other_guidance = _pool(tmp_path / "a", guidance=4.0)
    for other in (b, other_guidance):
        assert _definition(other) != _definition(a)


def test_a_hub_id_needs_a_revision_which_is_part_of_the_definition(tmp_path: Path):
    pool = _pool(tmp_path, weights="someone/model", revision="abc123")
    assert _definition(pool)["weights"] == "someone/model@abc123"
    unpinned = _pool(tmp_path, weights="someone/model")
    with pytest.raises(InputError, match="for a hub id, add its 'revision'"):
        _definition(unpinned)


def test_the_configuration_is_read_from_the_cache_of_the_hub_when_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    revision = "0" * 40
    snapshot = tmp_path / "hub" / "models--someone--model" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    pool = _pool(tmp_path, weights="someone/model", revision=revision)
    assert config_folder(pool.generators["mini"], pool.folder) == snapshot
    uncached = _pool(tmp_path, weights="someone/other", revision=revision)
    with pytest.raises(
        InputError,
        match=(
            r"generators\.mini\.weights: the hub does not respond, and 'someone/other' at revision"
        ),
    ):
        config_folder(uncached.generators["mini"], uncached.folder)


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path):
    (tmp_path / "sd").mkdir()
    pool = _pool(tmp_path)
    with pytest.raises(InputError, match=r"has no model_index\.json"):
        config_folder(pool.generators["mini"], pool.folder)


def test_the_message_for_an_unknown_class_suggests_the_nearest_class(tmp_path: Path):
    spec = _pool(tmp_path).generators["mini"]
    with pytest.raises(
        InputError,
        match=(
            r"\.pipeline: .* 'StableDifusionPipeline' \(did you mean 'StableDiffusionPipeline'\?\)"
        ),
    ):
        diffusers_class(spec, "pipeline", "StableDifusionPipeline", "Pipeline")
    with pytest.raises(
        InputError, match=r"\.scheduler: .* \(did you mean 'EulerDiscreteScheduler'\?\)"
    ):
        diffusers_class(spec, "scheduler", "EulerDiscretScheduler", "Scheduler")


NO_HUB_ID = {
    "weights": {"weights": "./models/sdxl/v1", "revision": "main"},
    "lora.weights": {"lora": {"weights": "../adapters/a", "revision": "main"}},
    "parts.unet.weights": {"parts": {"unet": {"weights": "/models/a/b", "revision": "main"}}},
}


@pytest.mark.parametrize(("key", "changes"), NO_HUB_ID.items())
def test_a_missing_folder_with_a_revision_is_not_taken_for_a_hub_id(
    key: str, changes: dict[str, object], tmp_path: Path, miniature_pool: Path
):
    pool = _pool(tmp_path, **{"weights": str(miniature_pool.parent / "sd"), **changes})
    kind = kind_of(pool.generators["mini"], pool.folder)
    problem = check_rows(str(pool.file), None)[0]["problem"]
    for message in (problem, _error(kind.identity), _error(lambda: kind.prepare([], "cpu"))):
        assert message.startswith(f"{pool.file}: generators.mini.{key}: the folder ")
        assert "is not a hub id, which has the form OWNER/NAME" in message


def _error(function: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        function()
    return str(caught.value)

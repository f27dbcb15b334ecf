import pickle

import numpy as np
import pytest
import torch

from catimage.errors import InputError
from catimage.metrics.metric import MetricContext
from catimage.metrics.sets.features import (
    BATCH_SIZE,
    INCEPTION_FILE,
    N_CLASSES,
    InceptionExtractor,
    TinyClipExtractor,
    class_captions,
)
from catimage.params import WeightsParams
from catimage.scenes.parse import parse
from catimage.scenes.render import render


@pytest.fixture(scope="module")
def tiny():
    return TinyClipExtractor(MetricContext(device="cpu"))


def rendered(prompts, seed=0):
    """Return one rendered image per caption."""
    rng = np.random.default_rng(seed)
    return [render(parse(prompt), rng) for prompt in prompts]


def test_features_of_the_tiny_clip_are_scaled_embeddings(tiny):
    images = rendered(class_captions()[:5])
    features = tiny.all_features(images)
    assert features.dtype == np.float64 and features.shape == (5, 128)
    assert np.square(features).mean(1) == pytest.approx(np.ones(5), rel=1e-5)
    from catimage.metrics.registry import get_metric

    cosines = get_metric("clip_score", device="cpu").score(np.stack(images), class_captions()[:5])
    texts = tiny._clip.embed_texts(class_captions()[:5]).double().numpy()
    assert (features * texts).sum(1) / 128**0.5 == pytest.approx(cosines, abs=1e-6)


def test_the_zero_shot_classifier_recognises_rendered_scenes(tiny):
    assert len(set(class_captions())) == N_CLASSES and class_captions() == class_captions()
    logits = tiny.logits(tiny.all_features(rendered(class_captions()[::3])))
    assert (
        logits.shape == (34, N_CLASSES)
        and (logits.argmax(1) == np.arange(0, N_CLASSES, 3)).mean() > 0.8
    )


def test_features_do_not_depend_on_batches_and_on_images_of_other_sizes(tiny):
    images = rendered(class_captions()[:40])
    assert len(images) > BATCH_SIZE
    large = np.zeros((80, 96, 3), np.uint8)
    features = tiny.all_features([*images[:3], large, *images[3:]])
    assert len(features) == len(images) + 1
    assert np.delete(features, 3, 0) == pytest.approx(tiny.all_features(images), abs=1e-4)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Save random weights of torch-fidelity's Inception network; return the folder."""
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    patch = pytest.MonkeyPatch()
    with patch.context() as m:
        m.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        m.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        m.setattr(
            torch.nn.init, "kaiming_uniform_", lambda tensor, **_: tensor
        )  # the weights are replaced below; this saves half the time
        network = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.manual_seed(0)
    for p in network.parameters():
        p.data = (
            torch.randn(p.shape) / max(1, p[0].numel()) ** 0.5
            if p.ndim > 1
            else torch.rand(p.shape)
        )
    folder = tmp_path_factory.mktemp("inception")
    torch.save(network.state_dict(), folder / INCEPTION_FILE)
    return folder


def test_features_and_logits_of_the_inception_network_equal_torchmetrics(weights):
    from torchmetrics.image.fid import NoTrainInceptionV3

    images = np.random.default_rng(0).integers(0, 255, (3, 40, 30, 3), np.uint8)
    extractor = InceptionExtractor(
        MetricContext(device="cpu", weights={"inception": WeightsParams(weights=str(weights))})
    )
    features = extractor.all_features(images)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    for layer, values in (("2048", features), ("logits_unbiased", extractor.logits(features))):
        expected = (
            NoTrainInceptionV3("inception-v3-compat", [layer], str(weights / INCEPTION_FILE))(
                pixels
            )
            .double()
            .numpy()
        )
        assert (
            values == pytest.approx(expected, rel=1e-4, abs=1e-4 * abs(expected).max())
            and expected.std() > 0
        )
    assert extractor.version.startswith("1-")


class FailsWhenUnpickled:
    """An object whose pickle fails the test when it is loaded."""

    def __reduce__(self):
        return pytest.fail, ("the pickle was loaded",)


def test_missing_weights_and_the_weights_of_another_model_are_refused(tmp_path):
    def load():
        return InceptionExtractor(
            MetricContext(device="cpu", weights={"inception": WeightsParams(weights=str(tmp_path))})
        )

    with pytest.raises(InputError, match=r"label\.weights\.inception"):
        InceptionExtractor(MetricContext(device="cpu"))
    with pytest.raises(InputError, match="is not found"):
        load()
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / INCEPTION_FILE)
    with pytest.raises(InputError, match="does not contain torch-fidelity's Inception network"):
        load()
    (tmp_path / INCEPTION_FILE).write_bytes(pickle.dumps(FailsWhenUnpickled(), protocol=2))
    with pytest.raises(InputError, match="which are not loaded"):
        load()

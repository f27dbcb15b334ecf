"""The training loop, and the devices of the tensors of loss functions."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from catimage.pool.generators.next_scale.model import NextScaleModel
from catimage_tiny.autoencoder import autoencoder_loss, new_autoencoder
from catimage_tiny.clip import contrastive_loss, new_clip
from catimage_tiny.denoiser import Examples, add_lora, loss_on_batches, new_denoiser, velocity_loss
from catimage_tiny.distillation import guided_velocity, one_step_loss, progressive_loss
from catimage_tiny.next_scale import ARCHITECTURE, ImageTokenizer, bit_loss, image_tokenizer_loss
from catimage_tiny.noise import noise_schedule
from catimage_tiny.recipe import PartSettings
from catimage_tiny.training import Update, cosine_learning_rate, fit


def test_the_learning_rate_has_a_warm_up_and_a_cosine_decay():
    assert cosine_learning_rate(0, 1000, 1.0) == pytest.approx(1 / 200)
    assert cosine_learning_rate(99, 1000, 1.0) == pytest.approx(0.5, abs=0.02)
    assert cosine_learning_rate(200, 1000, 1.0) == pytest.approx(0.905, abs=0.01)
    assert cosine_learning_rate(999, 1000, 1.0) == pytest.approx(0.01, abs=1e-4)
    assert cosine_learning_rate(4, 10, 1.0) == pytest.approx(0.6580, abs=1e-3), "a short warm-up"


def _regression():
    torch.manual_seed(0)
    net = torch.nn.Linear(5, 7)
    x, coefficients = torch.randn(64, 5), torch.randn(64, 7)[:5]
    return net, lambda: (net(x) - x @ coefficients).square().mean()


def test_training_minimizes_the_loss_and_returns_a_record():
    net, loss = _regression()
    before = loss().item()
    record = fit(net, loss, PartSettings(300, 64, 0.05, weight_decay=0.0), "regression")
    assert loss().item() < 0.01 * before
    assert record.part == "regression" and record.loss < 0.05 * before and record.seconds > 0


def test_weights_are_replaced_by_their_moving_average():
    net, loss = _regression()
    first = net.weight.detach().clone()
    update = Update(net, loss, PartSettings(1, 64, 0.1))
    update.learning_rate.fill_(0.1)
    update.decay.fill_(0.75)
    update.run()
    moved = net.weight.detach().clone()
    update.apply_averages()
    assert torch.allclose(net.weight, 0.75 * first + 0.25 * moved)


def test_weights_do_not_change_with_a_learning_rate_of_zero():
    """The updates before the recording of a CUDA graph have this learning rate."""
    net, loss = _regression()
    first = net.weight.detach().clone()
    update = Update(net, loss, PartSettings(1, 64, 0.1))
    update.run()
    update.apply_averages()
    assert torch.equal(net.weight, first)


def test_weight_decay_applies_to_matrices_only():
    net = torch.nn.Linear(2, 2)
    torch.nn.init.ones_(net.bias)
    first = net.weight.detach().clone()
    update = Update(net, lambda: 0 * net(torch.zeros(1, 2)).sum(), PartSettings(1, 1, 0.1))
    update.learning_rate.fill_(0.1)
    update.run()
    assert torch.allclose(net.weight, first * (1 - 0.1 * 0.01))
    assert torch.equal(net.bias, torch.ones(2))


def test_a_constraint_is_applied_after_every_update():
    net, loss = _regression()

    def clamp():
        net.weight.data.clamp_(0, 0.1)

    settings = PartSettings(5, 64, 0.1, averaging=0.0)
    fit(net, loss, settings, "clamped", after_update=clamp)
    assert net.weight.min() >= 0 and net.weight.max() <= 0.1


def test_a_loss_that_is_not_finite_is_an_error():
    net, _ = _regression()
    nan = torch.tensor(float("nan"))
    with pytest.raises(FloatingPointError, match=r"broken: the loss is nan after 2 updates\."):
        fit(net, lambda: net.weight.sum() * nan, PartSettings(2, 1, 0.1), "broken")


class MetaDeviceOnly(TorchDispatchMode):
    """Fail on operations with tensors on other devices than ``meta``.

    A CUDA graph cannot record such operations.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, output)):
            if isinstance(leaf, torch.Tensor):
                assert leaf.device.type == "meta", f"{func} has a tensor on {leaf.device}"
        return output


def _meta(*shape, dtype=torch.float16):
    return torch.empty(shape, dtype=dtype, device="meta")


IMAGES = _meta(8, 64, 64, 3, dtype=torch.uint8)
TEXT, EMPTY = _meta(8, 40, 128), _meta(40, 128)


def _denoiser_loss(loss, net=None, caption_dropout=0.0):
    net = net or new_denoiser().to("meta")
    return net, loss_on_batches(
        loss, net, Examples(_meta(8, 6, 16, 16), TEXT, EMPTY), 4, caption_dropout
    )


def _teacher(guidance):
    return guided_velocity(new_denoiser().to("meta").requires_grad_(False), EMPTY, guidance)


def _clip():
    model = new_clip(600).to("meta")
    return model, contrastive_loss(model, IMAGES, _meta(8, 40, dtype=torch.long), 4)


def _autoencoder():
    vae = new_autoencoder().to("meta")
    return vae, autoencoder_loss(vae, IMAGES, 4)


def _patterns():
    return _denoiser_loss(
        velocity_loss(noise_schedule("meta")), add_lora(new_denoiser()).to("meta")
    )


def _image_tokenizer():
    model = ImageTokenizer().to("meta")
    return model, lambda: image_tokenizer_loss(model, IMAGES, 4)


def _transformer():
    model = NextScaleModel(ARCHITECTURE).transformer.to("meta")
    features = _meta(4, 24, 8, 8).float()
    return model, lambda: bit_loss(model, features, TEXT[:4].float(), ARCHITECTURE.scales)


LOSSES = {
    "clip": _clip,
    "vae": _autoencoder,
    "unet": lambda: _denoiser_loss(velocity_loss(noise_schedule("meta")), caption_dropout=0.1),
    "lightning": lambda: _denoiser_loss(progressive_loss(noise_schedule("meta"), _teacher(3.0), 4)),
    "turbo": lambda: _denoiser_loss(one_step_loss(noise_schedule("meta"), _teacher(1), 4)),
    "patterns": _patterns,
    "image_tokenizer": _image_tokenizer,
    "transformer": _transformer,
}


@pytest.mark.parametrize("part", LOSSES)
def test_loss_functions_create_tensors_only_on_the_device_of_their_inputs(part):
    net, loss = LOSSES[part]()
    with MetaDeviceOnly():
        mean = loss()
        mean.backward()
    assert mean.shape == () and mean.device.type == "meta"
    assert any(p.grad is not None for p in net.parameters())

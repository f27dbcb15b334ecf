import numpy as np
import pytest
import torch

from catimage.estimators.training import Schedule, label_loss, scaled, train


@pytest.mark.parametrize("kind", ["cross_entropy", "squared"])
def test_the_loss_is_a_sum_over_heads_and_a_mean_over_prompts_of_labels_that_are_there(kind):
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(5, 3)), rng.random((5, 3))
    p = 1 / (1 + np.exp(-logits))
    each = (
        (p - target) ** 2
        if kind == "squared"
        else -target * np.log(p) - (1 - target) * np.log(1 - p)
    )
    assert float(label_loss(torch.tensor(logits), target, kind)) == pytest.approx(
        each.sum(1).mean(), rel=1e-5
    )
    target[rng.random(target.shape) < 0.4] = np.nan
    given = torch.tensor(logits, requires_grad=True)
    loss = label_loss(given, target, kind)
    assert loss.item() == pytest.approx(np.where(np.isnan(target), 0, each).sum(1).mean(), rel=1e-5)
    loss.backward()
    assert (given.grad.numpy()[np.isnan(target)] == 0).all()
    assert (given.grad.numpy()[~np.isnan(target)] != 0).all()


def test_one_range_scales_all_candidates():
    y, low, high = scaled(np.array([[0.0, 9.0], [np.nan, 3.0]]))
    assert (low, high) == (0.0, 9.0)
    assert y[~np.isnan(y)] == pytest.approx([0, 1, 1 / 3])


def test_the_best_epoch_is_kept_and_patience_ends_training():
    """The 'loss' falls for three epochs and then rises for ever; the weight counts epochs."""
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    epochs = []

    def loss(rows):
        if net.training:
            return -net.weight.sum()  # a step adds the rate, 1
        epochs.append(float(net.weight))
        return (net.weight - 3).abs().sum()

    least = train(
        net,
        torch.optim.SGD(net.parameters(), lr=1.0),
        loss,
        100,
        Schedule(1000, 50, 4, 0.1),
        np.random.default_rng(0),
    )
    assert (least, float(net.weight)) == (0.0, 3.0)
    assert epochs == [1, 2, 3, 4, 5, 6, 7]

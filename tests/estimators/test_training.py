import numpy as np
import pytest
import torch

from catimage.estimators.training import TrainingLoopSettings, label_loss, scale_labels, train


@pytest.mark.parametrize("name", ["cross_entropy", "squared_error"])
def test_the_loss_is_summed_over_candidates_averaged_over_prompts_and_ignores_missing_labels(name):
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(5, 3)), rng.random((5, 3))
    p = 1 / (1 + np.exp(-logits))
    losses = (
        (p - target) ** 2
        if name == "squared_error"
        else -target * np.log(p) - (1 - target) * np.log(1 - p)
    )
    assert float(label_loss(torch.tensor(logits), target, name)) == pytest.approx(
        losses.sum(1).mean(), rel=1e-5
    )
    target[rng.random(target.shape) < 0.4] = np.nan
    logits_with_gradient = torch.tensor(logits, requires_grad=True)
    loss = label_loss(logits_with_gradient, target, name)
    assert loss.item() == pytest.approx(
        np.where(np.isnan(target), 0, losses).sum(1).mean(), rel=1e-5
    )
    loss.backward()
    assert (logits_with_gradient.grad.numpy()[np.isnan(target)] == 0).all()
    assert (logits_with_gradient.grad.numpy()[~np.isnan(target)] != 0).all()


def test_labels_of_all_candidates_are_scaled_by_the_same_range():
    y, low, high = scale_labels(np.array([[0.0, 9.0], [np.nan, 3.0]]))
    assert (low, high) == (0.0, 9.0)
    assert y[~np.isnan(y)] == pytest.approx([0, 1, 1 / 3])


def test_the_best_epoch_is_restored_after_n_iter_no_change_epochs_without_improvement():
    """The only weight counts the epochs; the validation loss is smallest after three epochs."""
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    epochs = []

    def loss(rows):
        if net.training:
            return -net.weight.sum()  # each update adds the learning rate, 1
        epochs.append(float(net.weight))
        return (net.weight - 3).abs().sum()

    result = train(
        net,
        torch.optim.SGD(net.parameters(), lr=1.0),
        loss,
        100,
        TrainingLoopSettings(1000, 50, 4, 0.1),
        np.random.default_rng(0),
    )
    assert (result.validation_loss, float(net.weight), result.n_iter) == (0.0, 3.0, 7)
    assert epochs == [1, 2, 3, 4, 5, 6, 7]

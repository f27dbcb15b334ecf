import pytest
import torch

from catimage_tiny.denoiser import OUTER
from catimage_tiny.muon import Muon, optimisers, orthogonalised


@pytest.mark.parametrize("shape", [(8, 8), (8, 30), (30, 8)])
def test_the_update_is_nearly_the_orthogonal_factor(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonalised(matrix)
    values = u.T @ made @ v.T
    assert torch.allclose(
        values, torch.diag(values.diagonal()), atol=1e-3
    )  # the same singular vectors
    assert values.diagonal().min() > 0.6 and values.diagonal().max() < 1.3


def test_a_convolution_moves_as_the_matrix_that_it_is():
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.randn(6, 18))
    kernel = torch.nn.Parameter(matrix.detach().clone().reshape(6, 2, 3, 3))
    gradient = torch.randn(6, 18)
    matrix.grad, kernel.grad = gradient.clone(), gradient.reshape(6, 2, 3, 3).clone()
    before = matrix.detach().clone()
    for parameter in (matrix, kernel):
        Muon([parameter], lr=0.1, weight_decay=0.0).step()
    assert torch.equal(matrix.detach(), kernel.detach().reshape(6, 18))
    moved = (matrix.detach() - before).square().mean().sqrt()
    assert moved == pytest.approx(
        0.1 * 0.2, rel=0.3
    )  # the learning rate times AdamW's root mean square


def test_it_goes_down_a_quadratic():
    torch.manual_seed(0)
    target, x = torch.randn(5, 7), torch.nn.Parameter(torch.zeros(5, 7))
    optimiser = Muon([x], lr=0.05, weight_decay=0.0)
    for _ in range(200):
        x.grad = x.detach() - target
        optimiser.step()
    assert (x.detach() - target).square().mean() < 0.01 * target.square().mean()


def test_every_parameter_has_one_optimiser():
    net = torch.nn.Sequential()
    net.add_module("conv_in", torch.nn.Conv2d(3, 4, 3))
    net.add_module("inner", torch.nn.Conv2d(4, 4, 3))
    groups = [
        {id(p) for g in o.param_groups for p in g["params"]} for o in optimisers(net, 1e-3, OUTER)
    ]
    assert groups[0] == {id(net.inner.weight)}
    assert groups[0] | groups[1] == {id(p) for p in net.parameters()} and not groups[0] & groups[1]

import pytest
import torch

from catimage_tiny.distillation import guided_velocity, one_step_loss, progressive_loss
from catimage_tiny.noise import NOISE, noise_path


class Net(torch.nn.Module):
    """A stand-in for a denoiser: linear in its inputs."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, x, time, text):
        class Out:
            sample = (
                self.weight * x
                + text.mean((1, 2))[:, None, None, None]
                - time[:, None, None, None] / 1000
            )

        return Out


def test_the_path_is_that_of_diffusers_ddim():
    from diffusers import DDIMScheduler

    path, scheduler = noise_path(), DDIMScheduler.from_config({**NOISE, "clip_sample": False})
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
    torch.manual_seed(0)
    x = expected = torch.randn(2, 6, 4, 4)
    for time in scheduler.timesteps:
        velocity = torch.randn_like(x)
        expected = scheduler.step(velocity, time, expected, eta=0.0).prev_sample
        x = path.move(x, velocity, time.repeat(2), time.repeat(2) - 250)
        torch.testing.assert_close(x, expected, rtol=1e-3, atol=1e-4)


def test_the_path_ends_in_pure_noise_and_in_the_clean_image():
    path = noise_path()
    clean, noise = torch.randn(1, 1, 2, 2), torch.randn(1, 1, 2, 2)
    assert torch.equal(path.add(clean, noise, torch.tensor([999])), noise)
    assert torch.equal(path.add(clean, noise, torch.tensor([-1])), clean)


def test_the_true_velocity_recovers_the_clean_image():
    path = noise_path()
    clean, noise, time = (
        torch.randn(3, 1, 2, 2),
        torch.randn(3, 1, 2, 2),
        torch.tensor([900, 400, 5]),
    )
    signal, scale = path.at(time)
    velocity, x = signal * noise - scale * clean, path.add(clean, noise, time)
    torch.testing.assert_close(path.velocity(clean, noise, time), velocity)
    torch.testing.assert_close(path.clean(x, velocity, time), clean)
    torch.testing.assert_close(path.move(x, velocity, time, torch.tensor([-1] * 3)), clean)
    torch.testing.assert_close(
        path.move(x, velocity, time, time - 5), path.add(clean, noise, time - 5)
    )


def test_guidance_extrapolates_from_the_empty_prompt():
    net, text = Net(0.0), torch.ones(2, 3, 4)
    x, time = torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.long)
    for guidance, value in ((1, 1.0), (3, 3.0)):
        velocity = guided_velocity(net, torch.zeros(3, 4), guidance)(x, time, text)
        assert velocity.flatten().tolist() == pytest.approx([value] * 8)


def test_a_student_equal_to_its_teacher_has_no_loss():
    """With one substep; another student has a loss."""
    torch.manual_seed(0)
    x, text = torch.randn(4, 1, 2, 2), torch.randn(4, 3, 4)
    teacher = guided_velocity(Net(0.3), torch.zeros(3, 4), 1)
    assert progressive_loss(noise_path(), teacher, steps=4, substeps=1)(
        Net(0.3), x, text
    ).item() == pytest.approx(0, abs=1e-6)
    assert one_step_loss(noise_path(), teacher, steps=1)(Net(0.3), x, text).item() == pytest.approx(
        0, abs=1e-9
    )
    for loss in (
        progressive_loss(noise_path(), teacher, steps=4, substeps=2),
        one_step_loss(noise_path(), teacher, steps=4),
    ):
        assert loss(Net(0.9), x, text).item() > 1e-3


def test_a_student_learns_to_take_two_steps_of_its_teacher():
    torch.manual_seed(0)
    teacher, student = guided_velocity(Net(0.3), torch.zeros(3, 4), 1), Net(0.9)
    loss = progressive_loss(noise_path(), teacher, steps=2, substeps=2)
    optimiser = torch.optim.Adam(student.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        value = loss(student, torch.randn(16, 1, 2, 2), torch.randn(16, 3, 4))
        losses.append(value.item())
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])

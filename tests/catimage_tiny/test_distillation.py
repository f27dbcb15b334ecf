import pytest
import torch

from catimage_tiny.distillation import guided_velocity, one_step_loss, progressive_loss
from catimage_tiny.noise import SCHEDULER_CONFIG, noise_schedule


class LinearDenoiser(torch.nn.Module):
    """A denoiser whose output is a linear function of its inputs."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, x, time, text):
        class Output:
            sample = (
                self.weight * x
                + text.mean((1, 2))[:, None, None, None]
                - time[:, None, None, None] / 1000
            )

        return Output


def test_deterministic_steps_equal_those_of_the_ddim_scheduler():
    from diffusers import DDIMScheduler

    schedule = noise_schedule()
    scheduler = DDIMScheduler.from_config({**SCHEDULER_CONFIG, "clip_sample": False})
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
    torch.manual_seed(0)
    x = expected = torch.randn(2, 6, 4, 4)
    for time in scheduler.timesteps:
        velocity = torch.randn_like(x)
        expected = scheduler.step(velocity, time, expected, eta=0.0).prev_sample
        x = schedule.step(x, velocity, time.repeat(2), time.repeat(2) - 250)
        torch.testing.assert_close(x, expected, rtol=1e-3, atol=1e-4)


def test_the_last_timestep_is_pure_noise_and_minus_one_is_the_clean_latents():
    schedule = noise_schedule()
    clean, noise = torch.randn(1, 1, 2, 2), torch.randn(1, 1, 2, 2)
    assert torch.equal(schedule.add_noise(clean, noise, torch.tensor([999])), noise)
    assert torch.equal(schedule.add_noise(clean, noise, torch.tensor([-1])), clean)


def test_the_true_velocity_recovers_the_clean_latents():
    schedule = noise_schedule()
    clean, noise, time = (
        torch.randn(3, 1, 2, 2),
        torch.randn(3, 1, 2, 2),
        torch.tensor([900, 400, 5]),
    )
    signal, scale = schedule.scales_at(time)
    velocity, x = signal * noise - scale * clean, schedule.add_noise(clean, noise, time)
    torch.testing.assert_close(schedule.velocity(clean, noise, time), velocity)
    torch.testing.assert_close(schedule.clean_latents(x, velocity, time), clean)
    torch.testing.assert_close(schedule.step(x, velocity, time, torch.tensor([-1] * 3)), clean)
    torch.testing.assert_close(
        schedule.step(x, velocity, time, time - 5), schedule.add_noise(clean, noise, time - 5)
    )


def test_guidance_extrapolates_from_the_empty_prompt():
    net, text = LinearDenoiser(0.0), torch.ones(2, 3, 4)
    x, time = torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.long)
    for guidance, expected in ((1, 1.0), (3, 3.0)):
        velocity = guided_velocity(net, torch.zeros(3, 4), guidance)(x, time, text)
        assert velocity.flatten().tolist() == pytest.approx([expected] * 8)


def test_only_a_student_equal_to_its_teacher_has_no_loss():
    torch.manual_seed(0)
    x, text = torch.randn(4, 1, 2, 2), torch.randn(4, 3, 4)
    teacher = guided_velocity(LinearDenoiser(0.3), torch.zeros(3, 4), 1)
    assert progressive_loss(noise_schedule(), teacher, steps=4, substeps=1)(
        LinearDenoiser(0.3), x, text
    ).item() == pytest.approx(0, abs=1e-6)
    assert one_step_loss(noise_schedule(), teacher, steps=1)(
        LinearDenoiser(0.3), x, text
    ).item() == pytest.approx(0, abs=1e-9)
    for loss in (
        progressive_loss(noise_schedule(), teacher, steps=4, substeps=2),
        one_step_loss(noise_schedule(), teacher, steps=4),
    ):
        assert loss(LinearDenoiser(0.9), x, text).item() > 1e-3


def test_training_reduces_the_loss_of_progressive_distillation():
    torch.manual_seed(0)
    teacher = guided_velocity(LinearDenoiser(0.3), torch.zeros(3, 4), 1)
    student = LinearDenoiser(0.9)
    loss = progressive_loss(noise_schedule(), teacher, steps=2, substeps=2)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        mean = loss(student, torch.randn(16, 1, 2, 2), torch.randn(16, 3, 4))
        losses.append(mean.item())
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
